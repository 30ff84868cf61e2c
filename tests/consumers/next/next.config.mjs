export default {
  assetPrefix: process.env.BASE?.replace(/\/$/, ''),
  headers: async () => [{ source: '/:path*', headers: [{ key: 'content-security-policy', value: process.env.POLICY }] }],
};

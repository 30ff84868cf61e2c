// How open archives share the workers of the packed package, in Chromium and in Node.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { folder, places, writeLarge } from './common/package.mjs';

const ARCHIVES = 20;
const WORKERS = 4;
const MEMORY_BYTES_MAX = 16 << 20;

/** What the scenarios below import, beside the package's own modules. */
const TOOLS = 'test-workers.js';

describe('Workers', () => {
  before(writeLarge);
  before(() => copyFile(new URL('common/workers.js', import.meta.url), join(folder, 'node_modules/mcwc/pkg', TOOLS)));

  for (const [place, { run: runIn }] of Object.entries(places)) {
    describe(place, () => {
      const run = (scenario, argument) => runIn(scenario, { tools: TOOLS, archives: ARCHIVES, limit: WORKERS, ...argument });

      test('are shared by all open archives, and end after the last of them', async () => {
        const scenario = async ({ tools, archives, limit, ...where }) => {
          const { workers, open, isRight, end } = await (await import(new URL(tools, where.entry))).start(where);
          const opened = await Promise.all(Array.from({ length: archives }, () => open({ workers: limit })));
          // All at once, and more than one each.
          const checks = opened.flatMap((archive, index) => [0, 5, 7].map((step) => isRight(archive, (index + step) % 12)));
          const right = (await Promise.all(checks)).filter(Boolean).length;
          const started = workers.length;
          opened.forEach((archive) => archive.close());
          const again = await open({ workers: 1 });
          const rightAgain = await isRight(again, 3);
          const startedAgain = workers.length - started;
          again.close();
          while (workers.some(({ ended }) => !ended)) await new Promise((resolve) => setTimeout(resolve, 20));
          const afresh = await open({ workers: 1 });
          const rightAfresh = await isRight(afresh, 4);
          afresh.close();
          await end();
          return { right, started, rightAgain, startedAgain, rightAfresh, startedAfresh: workers.length - started };
        };
        const { started, ...result } = await run(scenario);
        assert(started > 1 && started <= WORKERS, `${started} workers`);
        assert.deepEqual(result, { right: 3 * ARCHIVES, rightAgain: true, startedAgain: 0, rightAfresh: true, startedAfresh: 1 });
      });

      test('hold little for archives that rest', async () => {
        const scenario = async ({ tools, archives, workers, ...where }) => {
          const { open, isRight, end } = await (await import(new URL(tools, where.entry))).start(where);
          const opened = await Promise.all(Array.from({ length: archives }, () => open({ workers })));
          let right = 0;
          for (const step of [0, 7]) for (const [index, archive] of opened.entries()) right += await isRight(archive, (index + step) % 12);
          const memoryBytes = Math.max(...opened.map((archive) => archive.memoryBytes));
          opened.forEach((archive) => archive.close());
          await end();
          return { right, memoryBytes };
        };
        for (const workers of [0, 1]) {
          const { right, memoryBytes } = await run(scenario, { workers });
          assert.equal(right, 2 * ARCHIVES);
          assert(memoryBytes > 0 && memoryBytes <= MEMORY_BYTES_MAX, `${memoryBytes} bytes of wasm memory`);
        }
      });

      test('go on with other archives when one is closed, is aborted, or waits for its download', async () => {
        const scenario = async ({ tools, limit, ...where }) => {
          const { archive, open, isRight, outcome, end } = await (await import(new URL(tools, where.entry))).start(where);
          const part = (share) => archive.slice(0, Math.floor(archive.length * share));
          const stalled = new ReadableStream({ start: (controller) => controller.enqueue(part(0.5)) });
          const controller = new AbortController();
          const waiting = await open({ workers: limit }, stalled);
          const [kept, closed, aborted] = [await open({ workers: 1 }), await open({ workers: 1 }), await open({ workers: 1, signal: controller.signal })];
          // Of more than a batch each, so that they begin and cannot end.
          const stuck = waiting.files.map(({ name }) => outcome(waiting.file(name).bytes()));
          const outcomes = [closed, aborted].map((archive) => archive.tensors.map(({ name }) => outcome(archive.tensor(name))));
          const right = Promise.all(kept.tensors.map((_, index) => isRight(kept, index)));
          await Promise.all(outcomes.map(([first]) => first));
          closed.close();
          controller.abort(new RangeError('enough'));
          const wrong = (await right).filter((right) => !right).length;
          waiting.close();
          const [ofClosed, ofAborted] = await Promise.all(outcomes.map((outcomes) => Promise.all(outcomes)));
          const result = { wrong, closed: ofClosed.at(-1), aborted: ofAborted.at(-1), stuck: await Promise.all(stuck) };
          kept.close();
          await end();
          return result;
        };
        assert.deepEqual(await run(scenario), { wrong: 0, closed: 'closed', aborted: 'RangeError', stuck: ['closed'] });
      });

      for (const way of ['an error', 'a trap']) {
        test(`are replaced after ${way}, which only hits the jobs that they had`, async () => {
          const scenario = async ({ tools, way, ...where }) => {
            const { workers, archive, open, isRight, outcome, end } = await (await import(new URL(tools, where.entry))).start(where);
            const headBytes = 32 + new DataView(archive.buffer).getUint32(12, true);
            const damage = {
              'an error': (worker) => worker.postMessage(null),
              'a trap': (worker) => {
                const step = { chunk: 0, frame: -1, index: -1, gives: true, decoded: 2 ** 32 - 1, skip: 0, take: 1, at: 0 };
                const batch = { steps: [step], payloads: new Uint8Array(1), lengths: [1], verified: [true] };
                worker.postMessage({ type: 'open', archive: -1, heads: [archive.slice(0, headBytes)] });
                worker.postMessage({ type: 'batch', archive: -1, job: -1, begin: { bytes: 1 }, batch, last: true });
              },
            };
            const [first, second] = [await open({ workers: 2 }), await open({ workers: 2 })];
            const both = (index) => Promise.all([first, second].map((archive) => isRight(archive, index)));
            const before = [...(await both(0)), ...(await both(1))];
            damage[way](workers[0]);
            const during = await Promise.all([first, second].flatMap((archive) => archive.tensors.map(({ name }) => outcome(archive.tensor(name)))));
            const after = [...(await both(2)), ...(await both(3))];
            const result = { before, after, during: during.toSorted(), started: workers.length };
            [first, second].forEach((archive) => archive.close());
            await end();
            return result;
          };
          const { before, after, during, started } = await run(scenario, { way });
          assert.deepEqual([...before, ...after], Array(8).fill(true));
          const failed = during.filter((outcome) => outcome === 'io').length;
          assert(failed > 0 && during.every((outcome) => ['decoded', 'io'].includes(outcome)), during.join());
          assert(during.length - failed > 0, during.join());
          assert.equal(started, 3);
        });
      }
    });
  }

  test('do not keep Node running', () => {
    const script = `
      import { open } from 'mcwc';
      const [first, second] = await Promise.all([open('large.mcwc'), open('large.mcwc')]);
      await Promise.all([first.tensor('layer0'), second.tensor('layer1')]);
      first.close();
      console.log('read');
    `;
    const output = execFileSync('node', ['--input-type=module', '--eval', script], { cwd: folder, encoding: 'utf8', timeout: 60_000 });
    assert.equal(output, 'read\n');
  });
});

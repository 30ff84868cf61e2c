// Peak memory and processor time of processes, as the kernel keeps them. Linux only: it reads /proc.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const POLL_MS = 10;
const TICKS_PER_SECOND = 100;

/** Largest resident set of a process, in bytes, and the seconds that its threads computed; read until it ends. */
export async function measureProcess(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  let [peakBytes, cpuSeconds] = [0, 0];
  const read = () => {
    peakBytes = Math.max(peakBytes, peakResident(child.pid));
    cpuSeconds = Math.max(cpuSeconds, processorSeconds(child.pid));
  };
  const timer = setInterval(read, POLL_MS);
  const status = await new Promise((resolve, reject) => child.on('exit', resolve).on('error', reject));
  clearInterval(timer);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit status ${status}`);
  return { peakBytes, cpuSeconds };
}

function processorSeconds(pid) {
  try {
    // After the name, which may hold anything: user and system time are fields 14 and 15.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** 0 for a process that has ended. */
export function peakResident(pid) {
  try {
    return 1024 * Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Peak memory of the processes of a browser that run pages. */
export async function renderers(browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  return new Map(processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => [id, peakResident(id)]));
}

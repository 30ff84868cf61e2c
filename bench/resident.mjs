// Peak memory of processes, as the kernel keeps it. Linux only: it reads /proc.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const POLL_MS = 10;

/** Largest resident set of a process; read until it ends. */
export async function peakOf(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, peakResident(child.pid))), POLL_MS);
  const status = await new Promise((resolve, reject) => child.on('exit', resolve).on('error', reject));
  clearInterval(timer);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: exit status ${status}`);
  return peak;
}

/** 0 for a process that has ended. */
export function peakResident(pid) {
  try {
    return 1024 * Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

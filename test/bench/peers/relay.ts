/**
 * A relay between a program and Azurite that makes them far from each other: what one sends the other gets so many
 * milliseconds later, and a connection takes a round trip before it carries anything. The bandwidth stays what it is. A
 * process of its own: `relay.ts <listens on> <leads to> <milliseconds each way>`.
 */
import { connect, createServer, type Socket } from 'node:net';

const [listensOn = 0, leadsTo = 0, eachWayMs = 0] = process.argv.slice(2).map(Number);

interface Late {
  readonly dueMs: number;
  /** Undefined for the end. */
  readonly bytes: Buffer | undefined;
}

/** Passes on what comes, in its order, when it is due. */
function passOn(from: Socket, to: Socket, opensMs: number): void {
  const openAt = performance.now() + opensMs;
  const waiting: Late[] = [];
  let timer: NodeJS.Timeout | undefined;
  const pass = (): void => {
    timer = undefined;
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const earlyMs = next.dueMs - performance.now();
      if (earlyMs > 0) {
        timer = setTimeout(pass, earlyMs);
        return;
      }
      waiting.shift();
      if (next.bytes === undefined) to.end();
      else to.write(next.bytes);
    }
  };
  const take = (bytes: Buffer | undefined): void => {
    waiting.push({ dueMs: Math.max(performance.now(), openAt) + eachWayMs, bytes });
    if (timer === undefined) pass();
  };
  from.on('data', take);
  from.on('end', () => take(undefined));
}

const options = { noDelay: true, allowHalfOpen: true };
createServer(options, (near) => {
  const far = connect({ ...options, port: leadsTo, host: '127.0.0.1' });
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', (hadError) => hadError && other.destroy());
  }
  passOn(near, far, 2 * eachWayMs);
  passOn(far, near, 0);
}).listen(listensOn, '127.0.0.1', () => process.send?.('ready'));

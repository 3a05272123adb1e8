import { expect, it, onTestFinished, vi } from 'vitest';
import { listenForStop } from '../../src/cli/stop-signals.ts';

it('a signal that comes again within two seconds says nothing new; a later one asks to stop at once', () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(100_000);
  const { stop, stopAtOnce } = listenForStop({ reason: new Error('stopped') });
  onTestFinished(() => {
    now.mockRestore();
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeAllListeners(name);
  });
  expect(stop.aborted).toBe(false);
  process.emit('SIGHUP');
  expect(stop.reason).toMatchObject({ message: 'stopped' });
  now.mockReturnValue(102_000);
  process.emit('SIGHUP');
  expect(stopAtOnce.aborted).toBe(false);
  now.mockReturnValue(102_001);
  process.emit('SIGHUP');
  expect(stopAtOnce.aborted).toBe(true);
});

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/kit/global-setup.ts'],
    pool: 'forks',
    // Many tests wait for processes and timers: two at a time also where there are two cores.
    maxWorkers: 2,
    // These end what hangs, on a machine that is busy with other work too; no test is meant to take as long.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
  },
});

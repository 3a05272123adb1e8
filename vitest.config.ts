import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/kit/global-setup.ts'],
    pool: 'forks',
    // Many tests wait for processes and timers: two at a time also where there are two cores.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // What is waited for comes in milliseconds, and late where the machine has much else to do.
    expect: { poll: { timeout: 20_000 } },
  },
});

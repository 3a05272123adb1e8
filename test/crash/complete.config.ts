/** `npm run test:crash`: everything under `test/crash/` and `test/fuzz/`, and the journal's model, complete. */
import { defineConfig } from 'vitest/config';
import normal from '../../vitest.config.ts';

export default defineConfig({
  test: {
    ...normal.test,
    include: ['test/{crash,fuzz}/**/*.test.ts', 'test/journal/interleavings.test.ts'],
    env: { FIRN_TEST_COMPLETE: '1' },
  },
});

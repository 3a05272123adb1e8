/** Preloaded into a process under test (`--import`): writes its peak resident memory to the file that it is told. */
import { writeFileSync } from 'node:fs';

const KIBIBYTE = 1024;

process.on('exit', () => {
  const file = process.env.FIRN_TEST_PEAK_MEMORY_FILE;
  if (file) writeFileSync(file, String(process.resourceUsage().maxRSS * KIBIBYTE));
});

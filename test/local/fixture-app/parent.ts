/** A process that starts a host, tells its id and waits to be killed. */
import { spawnFunctionsHost } from '../../../src/local/host-client.ts';

const host = await spawnFunctionsHost({
  appRoot: import.meta.dirname,
  entry: 'single.ts',
  httpPort: 0,
  settings: { AzureWebJobsStorage: process.env.FIXTURE_STORAGE ?? '' },
});
process.send?.(host.pid);

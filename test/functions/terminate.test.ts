import { app, type InvocationContext } from '@azure/functions';
import { expect, it, vi } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import { repositoryNames } from '../../src/settings.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';

it('a function app that is told to stop has made durable what its journals took, and takes nothing more', async () => {
  const terminate = vi.spyOn(app.hook, 'appTerminate');
  const repository = uniqueName('stop');
  vi.stubEnv('FIRN_REPOSITORY', repository);
  vi.stubEnv('FIRN_STORAGE', azuriteConnectionString());
  const state = connectStorage({ connectionString: azuriteConnectionString() }).container(
    repositoryNames(repository).state,
  );
  await state.createContainer();
  try {
    const { inboxOf } = await import('../../functions/shared/application.ts');
    const journal = inboxOf({ warn() {} } as unknown as InvocationContext).journalOf('photos');
    const paths = Array.from({ length: 50 }, (_, at) => `${at}`);
    for (const path of paths) void journal.append([{ kind: 'upload', path, etag: '"1"', bytes: 1 }]);
    for (const [hook] of terminate.mock.calls) await hook({} as never);
    await expect(journal.append([{ kind: 'upload', path: 'late', etag: '"1"', bytes: 1 }])).rejects.toMatchObject({
      code: 'FIRN_JOURNAL_CLOSED',
    });
    const settings = { recordsMax: 1000, uploadBytesMax: 1000, ageSecondsMax: 60 };
    const other = openJournal(state, 'photos', settings);
    const [info] = await other.sealDue({ force: true });
    expect(await Array.fromAsync(other.read(info!.batch), ({ path }) => path)).toEqual(paths);
  } finally {
    vi.unstubAllEnvs();
    await state.deleteContainer();
  }
});

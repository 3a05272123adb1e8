/**
 * After `azd down`: says what was kept. Where DELETE_ARCHIVE is the name of the resource group of the archive, and only
 * then, deletes it for good: locks, blobs, passphrase.
 */
import { fileURLToPath } from 'node:url';
import { archiveGroupOf, runHook, type World } from './azure.ts';

export async function postdown(world: World): Promise<void> {
  const group = archiveGroupOf(world);
  if ((await world.az(['group', 'exists', '--name', group, '--output', 'tsv'])) !== 'true') return;
  if (world.environment.DELETE_ARCHIVE !== group) {
    world.say(`Kept: the archive and its passphrase, in the resource group ${group}. \`azd up\` takes them up again.`);
    world.say(`To delete them for good: azd env set DELETE_ARCHIVE ${group} && azd down`);
    return;
  }
  const locks = JSON.parse(
    await world.az(['lock', 'list', '--resource-group', group, '--query', '[].id', '--output', 'json']),
  ) as string[];
  for (const lock of locks) await world.az(['rest', '--method', 'delete', '--url', `${lock}?api-version=2020-05-01`]);
  await world.az(['group', 'delete', '--name', group, '--yes', '--output', 'none']);
  world.say(`Deleted the archive: the resource group ${group} is gone. The vault can be recovered for 90 days.`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runHook(postdown);

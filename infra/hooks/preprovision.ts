/**
 * Before `azd provision`: makes the resource group of the archive. `azd down` deletes the groups that a deployment made;
 * one that was there before it leaves alone.
 */
import { fileURLToPath } from 'node:url';
import { archiveGroupOf, need, runHook, type World } from './azure.ts';

export async function preprovision(world: World): Promise<void> {
  const group = archiveGroupOf(world);
  const exists = await world.az(['group', 'exists', '--name', group, '--output', 'tsv']);
  if (exists === 'true') return;
  await world.az(['group', 'create', '--name', group, '--location', need(world, 'AZURE_LOCATION'), '--output', 'none']);
  world.say(`Made the resource group ${group} for the archive. \`azd down\` will keep it.`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runHook(preprovision);

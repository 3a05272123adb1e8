/**
 * What the functions of the fixture app leave behind for the tests to see: one blob per effect in the container
 * EFFECTS_CONTAINER, under `<kind>/<key>/<unique>`, with the facts as JSON in the body.
 */
import { randomUUID } from 'node:crypto';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';

export function storage(): BlobServiceClient {
  return BlobServiceClient.fromConnectionString(process.env.FIXTURE_STORAGE ?? '');
}

function effects(): ContainerClient {
  return storage().getContainerClient(process.env.EFFECTS_CONTAINER ?? '');
}

/** Durable when it resolves. */
export async function leave(kind: string, key: string, facts: unknown = null): Promise<void> {
  const name = `${kind}/${key}/${Date.now()}-${randomUUID()}`;
  await effects()
    .getBlockBlobClient(name)
    .uploadData(Buffer.from(JSON.stringify(facts) ?? 'null'));
}

export async function count(kind: string, key: string): Promise<number> {
  let found = 0;
  for await (const _ of effects().listBlobsFlat({ prefix: `${kind}/${key}/` })) found += 1;
  return found;
}

/** Waits until the test has put a blob of that name into the container. */
export async function until(name: string): Promise<void> {
  while (!(await effects().getBlobClient(`gates/${name}`).exists())) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** What the service says of a blob, in the form of the port. */
import type { ContainerClient, BlobItem as ServiceItem } from '@azure/storage-blob';
import { sdkSignal } from './azure-block-upload.ts';
import { type BlobProperties, type CallOptions, type Tier, tiers } from './blob-store.ts';

/** Throws the SDK's errors. */
export async function getProperties(
  container: ContainerClient,
  name: string,
  options: CallOptions & { readonly ifMatch?: string | undefined },
): Promise<BlobProperties> {
  const conditions = options.ifMatch === undefined ? {} : { conditions: { ifMatch: options.ifMatch } };
  const found = await container.getBlobClient(name).getProperties({ ...conditions, ...sdkSignal(options.signal) });
  return {
    ...commonProperties(found),
    bytes: found.contentLength ?? 0,
    tier: tierOf(found.accessTier),
    sealed: found.isSealed ?? false,
    ...(found.blobCommittedBlockCount !== undefined && { blocks: found.blobCommittedBlockCount }),
  };
}

export function propertiesOfItem(item: ServiceItem): BlobProperties {
  return {
    ...commonProperties({ ...item.properties, metadata: item.metadata }),
    bytes: item.properties.contentLength ?? 0,
    tier: tierOf(item.properties.accessTier),
    sealed: item.properties.isSealed ?? false,
  };
}

export function commonProperties(found: {
  etag?: string | undefined;
  lastModified?: Date | undefined;
  metadata?: Record<string, string> | undefined;
  leaseStatus?: string | undefined;
}): { etag: string; lastModified: Date; metadata: Record<string, string>; leased: boolean } {
  return {
    etag: quoted(found.etag ?? ''),
    lastModified: found.lastModified ?? new Date(0),
    metadata: lowerCaseNames(found.metadata),
    leased: found.leaseStatus === 'locked',
  };
}

/** Listings write the ETag without the quotes that headers have. */
function quoted(etag: string): string {
  return etag.startsWith('"') ? etag : `"${etag}"`;
}

/** The service keeps the case in which a name was written, and headers have none. */
function lowerCaseNames(metadata: Record<string, string> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
}

function tierOf(text: string | undefined): Tier | undefined {
  return tiers.find((tier) => tier === text);
}

/**
 * What the blob trigger hands over: a reference, never content. The host sends it as model binding data because the
 * trigger is registered with `sdkBinding`; the factory registered here turns it into an `UploadReference`.
 */
import type { ModelBindingData } from '@azure/functions-extensions-base';
import extensionsBase from './extensions-base.cjs';

/** The name that the storage extension gives its references. */
const BLOB_SOURCE = 'AzureStorageBlobs';

export interface UploadReference {
  /** `<source>/<path>`. */
  readonly blobName: string;
}

/** The content is JSON: {"Connection","ContainerName","BlobName"}. Exported for its test. */
export function parseUploadReference(data: ModelBindingData | ModelBindingData[]): UploadReference {
  const { content } = Array.isArray(data) ? (data[0] ?? {}) : data;
  const parsed: unknown = JSON.parse(content?.toString() ?? 'null');
  if (typeof parsed === 'object' && parsed !== null && 'BlobName' in parsed && typeof parsed.BlobName === 'string') {
    return { blobName: parsed.BlobName };
  }
  throw new TypeError('The host sent a reference to a blob that names no blob.');
}

extensionsBase.ResourceFactoryResolver.getInstance().registerResourceFactory(BLOB_SOURCE, parseUploadReference);

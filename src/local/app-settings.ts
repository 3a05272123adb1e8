/**
 * The app settings of the hosted app: `%NAME%` in bindings, and the storage connections that bindings name.
 *
 * A connection is the name of a setting that holds a connection string (`UseDevelopmentStorage=true` is one), or the
 * common beginning of `<name>__blobServiceUri` and `<name>__queueServiceUri` (or `<name>__accountName`), which are used
 * with the default Azure credential. As in the real host, `AzureWebJobs<name>` is tried too.
 */
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { FirnError, problemOf } from '../errors.ts';

export const HOST_CONNECTION = 'AzureWebJobsStorage';

/** Local storage answers at once or not at all. */
const retryOptions = { maxTries: 3, retryDelayInMs: 200, maxRetryDelayInMs: 2_000 } as const;

export interface AppSettings {
  /** An empty setting counts as absent. */
  get(name: string): string | undefined;
  /** Replaces every `%NAME%`. FIRN_SETTING_MISSING names the setting and the function. */
  expand(text: string, functionName: string): string;
  /** Clients are made once per connection. FIRN_SETTING_MISSING, FIRN_SETTING_INVALID. */
  blobService(connection: string): Promise<BlobServiceClient>;
  queueService(connection: string): Promise<QueueServiceClient>;
}

type Connection =
  | { readonly connectionString: string }
  | { readonly blobUrl: string | undefined; readonly queueUrl: string | undefined };

export function createAppSettings(settings: Readonly<Record<string, string | undefined>>): AppSettings {
  const get = (name: string): string | undefined => settings[name] || undefined;
  const blobServices = new Map<string, Promise<BlobServiceClient>>();
  const queueServices = new Map<string, Promise<QueueServiceClient>>();

  function resolve(name: string): Connection {
    for (const candidate of [name, `AzureWebJobs${name}`]) {
      const connectionString = get(candidate);
      if (connectionString !== undefined) return { connectionString };
      const account = get(`${candidate}__accountName`);
      const url = (service: 'blob' | 'queue'): string | undefined =>
        get(`${candidate}__${service}ServiceUri`) ??
        (account === undefined ? undefined : `https://${account}.${service}.core.windows.net`);
      if (url('blob') !== undefined || url('queue') !== undefined) {
        return { blobUrl: url('blob'), queueUrl: url('queue') };
      }
    }
    throw new FirnError('FIRN_SETTING_MISSING', {
      name,
      problem: 'a function names it as its storage connection, and it holds neither a connection string nor addresses',
    });
  }

  async function open<T>(
    name: string,
    service: 'blob' | 'queue',
    fromConnectionString: (text: string) => T,
    fromUrl: (url: string) => Promise<T>,
  ): Promise<T> {
    const connection = resolve(name);
    try {
      if ('connectionString' in connection) return fromConnectionString(connection.connectionString);
      const url = connection[`${service}Url`];
      if (url !== undefined) return await fromUrl(url);
    } catch (error) {
      throw new FirnError('FIRN_SETTING_INVALID', { name, problem: problemOf(error) }, { cause: error });
    }
    throw new FirnError('FIRN_SETTING_MISSING', {
      name: `${name}__${service}ServiceUri`,
      problem: `a function uses the ${service} service of the connection ${name}`,
    });
  }

  function cached<T>(cache: Map<string, Promise<T>>, name: string, make: () => Promise<T>): Promise<T> {
    let made = cache.get(name);
    if (made === undefined) {
      made = make();
      cache.set(name, made);
    }
    return made;
  }

  return {
    get,
    expand: (text, functionName) =>
      text.replace(/%([^%]+)%/g, (_, name: string) => {
        const value = get(name);
        if (value === undefined) {
          throw new FirnError('FIRN_SETTING_MISSING', {
            name,
            problem: `the function ${functionName} names it in its binding «${text}»`,
          });
        }
        return value;
      }),
    blobService: (connection) =>
      cached(blobServices, connection, () =>
        open(
          connection,
          'blob',
          (text) => BlobServiceClient.fromConnectionString(text, { retryOptions }),
          async (url) => new BlobServiceClient(url, await credential(), { retryOptions }),
        ),
      ),
    queueService: (connection) =>
      cached(queueServices, connection, () =>
        open(
          connection,
          'queue',
          (text) => QueueServiceClient.fromConnectionString(text, { retryOptions }),
          async (url) => new QueueServiceClient(url, await credential(), { retryOptions }),
        ),
      ),
  };
}

async function credential() {
  const { DefaultAzureCredential } = await import('@azure/identity');
  return new DefaultAzureCredential();
}

/**
 * The config of a repository: what can never change after it was created. Stored as readable JSON, so that the format
 * version is known before any key, with a tag over the rest made with a key of the repository: whoever could change the
 * chunker or switch encryption off would be noticed.
 *
 * JSON of `config`: {"format":1,"id","created","encryption":"aes-256-gcm"|"none","chunking":{"method":"fastcdc",
 * "minBytes","averageBytes","maxBytes"}|{"method":"file"},"thinChunks":"packed"|"blob","tag"}. The tag is over the bytes
 * of the same JSON without the tag, in this order of fields.
 */
import { FirnError } from '../errors.ts';
import { hasNumbers, parseJsonBlob } from '../storage/json-blob.ts';
import { type Keys, sameTag } from './keys.ts';

export const CONFIG_NAME = 'config';
const CONFIG_FORMAT = 1;

export type Chunking =
  | {
      readonly method: 'fastcdc';
      readonly minBytes: number;
      readonly averageBytes: number;
      readonly maxBytes: number;
    }
  | { readonly method: 'file' };

export const defaultChunking: Chunking = {
  method: 'fastcdc',
  minBytes: 256 * 1024,
  averageBytes: 512 * 1024,
  maxBytes: 8 * 1024 * 1024,
};

export interface RepositoryConfig {
  readonly id: string;
  /** RFC 3339, UTC. */
  readonly created: string;
  readonly encryption: 'aes-256-gcm' | 'none';
  readonly chunking: Chunking;
  readonly thinChunks: 'packed' | 'blob';
}

function canonical(config: RepositoryConfig): Record<string, unknown> {
  const { id, created, encryption, chunking, thinChunks } = config;
  const { method } = chunking;
  const parameters =
    method === 'file'
      ? { method }
      : { method, minBytes: chunking.minBytes, averageBytes: chunking.averageBytes, maxBytes: chunking.maxBytes };
  return { format: CONFIG_FORMAT, id, created, encryption, chunking: parameters, thinChunks };
}

function tagOf(config: RepositoryConfig, keys: Keys): string {
  return keys.configTag(Buffer.from(JSON.stringify(canonical(config))));
}

export function encodeConfig(config: RepositoryConfig, keys: Keys): Buffer {
  return Buffer.from(`${JSON.stringify({ ...canonical(config), tag: tagOf(config, keys) }, undefined, 2)}\n`);
}

const damaged = (problem: string) => new FirnError('FIRN_CONFIG_DAMAGED', { what: 'config', problem });

/** Only what the tag covers; undefined when it makes no sense. */
function parseChunking(value: unknown): Chunking | undefined {
  if (typeof value !== 'object' || value === null || !('method' in value)) return undefined;
  if (value.method === 'file') return { method: value.method };
  if (value.method !== 'fastcdc' || !hasNumbers(value, 'minBytes', 'averageBytes', 'maxBytes')) return undefined;
  const { method, minBytes, averageBytes, maxBytes } = value;
  return { method, minBytes, averageBytes, maxBytes };
}

/** Reads the config before the keys are known; `verifyConfig` must follow. @throws FIRN_CONFIG_DAMAGED, FIRN_REPOSITORY_NEWER. */
export function parseConfig(body: Buffer): { config: RepositoryConfig; tag: string } {
  const value = parseJsonBlob(CONFIG_NAME, body, CONFIG_FORMAT);
  const { id, created, encryption, thinChunks, tag } = value;
  const chunking = parseChunking(value.chunking);
  if (
    typeof id !== 'string' ||
    typeof created !== 'string' ||
    (encryption !== 'aes-256-gcm' && encryption !== 'none') ||
    chunking === undefined ||
    (thinChunks !== 'packed' && thinChunks !== 'blob') ||
    typeof tag !== 'string'
  ) {
    throw damaged('a field is missing or makes no sense');
  }
  return { config: { id, created, encryption, chunking, thinChunks }, tag };
}

/** @throws FIRN_CONFIG_DAMAGED when the config is not as it was created with these keys. */
export function verifyConfig(config: RepositoryConfig, tag: string, keys: Keys): void {
  if (!sameTag(tagOf(config, keys), tag)) throw damaged('it is not as it was created');
}

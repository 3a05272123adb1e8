/** Faults of a network and of a busy service, in an order that a seed decides, for a proxy in front of Azurite. */
import type { FaultyProxy } from '../kit/faulty-proxy.ts';
import { chooserFrom } from '../kit/random.ts';

export const faultKinds = [
  'answers 500',
  'answers 503 and asks for patience',
  'answers 429',
  'closes before the request is read',
  'closes in the middle of the request',
  'closes before the answer, which took effect',
  'answers 500 to what took effect',
  'is slow',
  'cuts a download',
  'flips a bit of a download',
] as const;

export type FaultKind = (typeof faultKinds)[number];

export interface WireFaults {
  /** How often each was done. */
  readonly done: ReadonlyMap<FaultKind, number>;
  readonly requests: () => number;
}

export interface WireFaultOptions {
  readonly seed: number;
  /** One request in so many meets a fault. */
  readonly odds: number;
  /** In these containers alone downloads are changed: what the users upload has no checksum of ours yet. */
  readonly flipIn: (url: string) => boolean;
}

/** Makes the proxy faulty until it is stopped. */
export function addFaults(proxy: FaultyProxy, { seed, odds, flipIn }: WireFaultOptions): WireFaults {
  const choose = chooserFrom(seed);
  const done = new Map<FaultKind, number>();
  let requests = 0;
  proxy.fault = (method, url) => {
    requests += 1;
    if (choose(odds) !== 0) return undefined;
    const isDownload = method === 'GET' && !url.includes('comp=');
    const possible = faultKinds.filter((kind) => {
      if (kind === 'flips a bit of a download') return isDownload && flipIn(url);
      if (kind === 'cuts a download') return isDownload;
      if (kind === 'closes in the middle of the request') return method === 'PUT';
      return true;
    });
    const kind = possible[choose(possible.length)];
    if (kind === undefined) return undefined;
    done.set(kind, (done.get(kind) ?? 0) + 1);
    switch (kind) {
      case 'answers 500':
        return { kind: 'refuse', status: 500, code: 'InternalError' };
      case 'answers 503 and asks for patience':
        return { kind: 'refuse', status: 503, code: 'ServerBusy', headers: { 'retry-after': '1' } };
      case 'answers 429':
        return { kind: 'refuse', status: 429, code: 'TooManyRequests', headers: { 'retry-after': '1' } };
      case 'closes before the request is read':
        return { kind: 'close', after: 0 };
      case 'closes in the middle of the request':
        return { kind: 'close', after: 1 + choose(200) };
      case 'closes before the answer, which took effect':
        return { kind: 'cut', after: 0 };
      case 'answers 500 to what took effect':
        return { kind: 'instead', status: 500, code: 'InternalError' };
      case 'is slow':
        return { kind: 'delay', ms: 1 + choose(30) };
      case 'cuts a download':
        return { kind: 'cut', after: 1 + choose(300) };
      case 'flips a bit of a download':
        return { kind: 'flip', byte: choose(400), bit: choose(8) };
    }
  };
  return { done, requests: () => requests };
}

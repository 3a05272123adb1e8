/**
 * A blob store that lives in the parent process, for measurements that its memory must not be part of: the child's store
 * sends each call over the channel between the two, and the parent's store answers. Listings travel in pages, as they do
 * from the service. The store behind it decides everything; calls with streams are refused.
 */
import type { ChildProcess } from 'node:child_process';
import { type BlobFailure, type BlobItem, type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { LIST_PAGE_ITEMS } from '../kit/counted-store.ts';

interface Request {
  readonly call: number;
  readonly store: string;
  /** A method of the port, or `next` for one more page of the listing that this call began. */
  readonly method: string;
  readonly args: readonly unknown[];
}

interface Page {
  readonly items: readonly BlobItem[];
  readonly done: boolean;
}

type Answer = { readonly call: number } & (
  | { readonly result: unknown }
  | { readonly failure: BlobFailure; readonly blob: string }
  | { readonly problem: string }
);

function isRequest(message: unknown): message is Request {
  return typeof message === 'object' && message !== null && 'store' in message && 'call' in message;
}

/** In the parent: answers the calls of the child until it ends. The child is forked with `serialization: 'advanced'`. */
export function serveStores(child: ChildProcess, stores: Readonly<Record<string, BlobStore>>): void {
  const listings = new Map<number, AsyncIterator<BlobItem>>();
  const nextPage = async (call: number): Promise<Page> => {
    const listing = listings.get(call);
    const items: BlobItem[] = [];
    while (listing !== undefined && items.length < LIST_PAGE_ITEMS) {
      const { done, value } = await listing.next();
      if (done) {
        listings.delete(call);
        return { items, done: true };
      }
      items.push(value);
    }
    return { items, done: false };
  };
  const answer = async ({ call, store: name, method, args }: Request): Promise<unknown> => {
    const store = stores[name];
    if (store === undefined) throw new Error(`there is no store ${name}`);
    if (method === 'next') return await nextPage(call);
    if (method === 'list') {
      listings.set(call, store.list(args[0] as { prefix?: string })[Symbol.asyncIterator]());
      return await nextPage(call);
    }
    return await Reflect.apply(Reflect.get(store, method) as (...args: unknown[]) => unknown, store, [...args]);
  };
  child.on('message', async (message) => {
    if (!isRequest(message)) return;
    const { call } = message;
    let reply: Answer;
    try {
      reply = { call, result: await answer(message) };
    } catch (error) {
      if (error instanceof BlobStoreError) reply = { call, failure: error.failure, blob: error.blob };
      else reply = { call, problem: String(error) };
    }
    if (child.connected) child.send(reply);
  });
}

/** In the child: the parent's store of that name. */
export function createRemoteStores(): (name: string) => BlobStore {
  const waiting = new Map<number, (answer: Answer) => void>();
  let calls = 0;
  process.on('message', (message) => {
    const answer = message as Answer;
    waiting.get(answer.call)?.(answer);
    waiting.delete(answer.call);
  });

  async function ask(request: Request): Promise<unknown> {
    const answer = await new Promise<Answer>((resolve) => {
      waiting.set(request.call, resolve);
      process.send?.(request);
    });
    if ('result' in answer) return answer.result;
    if ('failure' in answer) throw new BlobStoreError(answer.failure, answer.blob);
    throw new Error(answer.problem);
  }

  /** Signals and clocks stay on this side. */
  function sendable(arg: unknown): unknown {
    if (typeof arg !== 'object' || arg === null || arg instanceof Uint8Array) return arg;
    const stays = (value: unknown) => typeof value === 'function' || value instanceof AbortSignal;
    return Object.fromEntries(Object.entries(arg).filter(([, value]) => !stays(value)));
  }

  return (name) => {
    async function* list(options: unknown): AsyncGenerator<BlobItem> {
      calls += 1;
      const call = calls;
      let page = (await ask({ call, store: name, method: 'list', args: [sendable(options)] })) as Page;
      yield* page.items;
      while (!page.done) {
        page = (await ask({ call, store: name, method: 'next', args: [] })) as Page;
        yield* page.items;
      }
    }
    const answered = {
      get(_: object, method: PropertyKey) {
        if (method === 'url') return `parent:${name}`;
        if (method === 'list') return list;
        return async (...args: unknown[]) => {
          if (/Stream$|^listFolders$/.test(String(method))) throw new Error(`${String(method)} is not served`);
          calls += 1;
          return await ask({ call: calls, store: name, method: String(method), args: args.map(sendable) });
        };
      },
    };
    return new Proxy({}, answered) as BlobStore;
  };
}

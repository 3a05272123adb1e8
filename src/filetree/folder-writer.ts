/**
 * Builds the pages of one folder from its entries in order, and from pages of an earlier version that can stay.
 *
 * A page of level n may be taken over as it is when the writer stands at the beginning of a page at every level up to n
 * (`aligned`) and the page ends by the rule or ends the folder. So the result is the same as if all entries were
 * given one by one. Holds one unfinished page a level; finished pages go to the node writer at once. A small folder is not
 * written: it goes into its entry.
 */
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { FolderTotals, FolderTree, TreeEntry } from './entry.ts';
import type { FiletreeStore } from './filetree-store.ts';
import type { NameGroup } from './folder-cursor.ts';
import { encodeEntry, encodePageRef, leafBytes, type PageRef, type TreeNode, totalsOfNode } from './node.ts';
import { isSmall } from './paging.ts';

/** Writes that are under way at once: a node of many pages or a tree of many folders is limited by the service's latency. */
const WRITES_IN_FLIGHT_MAX = 16;

export interface NodeWriter {
  /** Gives the hash at once and writes in the background; waits only while too many writes are under way. */
  write(node: TreeNode): Promise<Hash>;
  /** Resolves when all is durable. @throws the first failure, also of `write` calls before. */
  flush(): Promise<void>;
}

export function createNodeWriter(store: FiletreeStore, options: CallOptions = {}): NodeWriter {
  const inFlight = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  return {
    async write(node) {
      while (inFlight.size >= WRITES_IN_FLIGHT_MAX) await Promise.race(inFlight);
      if (failure) throw failure.error;
      const { hash, durable } = store.startWrite(node, options);
      if (durable !== undefined) {
        const tracked: Promise<void> = durable
          .catch((error: unknown) => {
            failure ??= { error };
          })
          .finally(() => inFlight.delete(tracked));
        inFlight.add(tracked);
      }
      return hash;
    },
    async flush() {
      await Promise.all(inFlight);
      if (failure) throw failure.error;
    },
  };
}

interface UnfinishedPage {
  readonly entries: TreeEntry[];
  readonly pages: PageRef[];
  items: number;
  bytes: number;
}

export interface WrittenFolder {
  readonly tree: FolderTree;
  readonly totals: FolderTotals;
}

export class FolderWriter {
  readonly #store: FiletreeStore;
  readonly #nodes: NodeWriter;
  readonly #options: CallOptions;
  readonly #levels: UnfinishedPage[] = [];
  #tookPages = false;

  constructor(store: FiletreeStore, nodes: NodeWriter, options: CallOptions = {}) {
    this.#store = store;
    this.#nodes = nodes;
    this.#options = options;
  }

  #level(level: number): UnfinishedPage {
    let page = this.#levels[level];
    while (page === undefined) {
      this.#levels.push({ entries: [], pages: [], items: 0, bytes: 0 });
      page = this.#levels[level];
    }
    return page;
  }

  /** Says whether a page of this level would begin here. */
  aligned(level: number): boolean {
    return this.#levels.slice(0, level + 1).every((page) => page.items === 0);
  }

  async pushGroup(group: NameGroup): Promise<void> {
    const page = this.#level(0);
    let bytes = 0;
    for (const entry of [group.folder, group.file]) {
      if (entry === undefined) continue;
      page.entries.push(entry);
      bytes += Buffer.byteLength(encodeEntry(entry));
    }
    page.items += 1;
    page.bytes += bytes;
    if (this.#store.endsPage({ level: 0, items: page.items, bytes: page.bytes }, group.name, bytes))
      await this.#endPage(0);
  }

  /** Takes over a page of an earlier version, of the level below `level`. Only when `aligned` for the page's own level. */
  async pushPage(level: number, ref: PageRef): Promise<void> {
    this.#tookPages = true;
    await this.#pushRef(level, ref);
  }

  async #pushRef(level: number, ref: PageRef): Promise<void> {
    const page = this.#level(level);
    const bytes = Buffer.byteLength(encodePageRef(ref));
    page.pages.push(ref);
    page.items += 1;
    page.bytes += bytes;
    if (this.#store.endsPage({ level, items: page.items, bytes: page.bytes }, ref.last, bytes))
      await this.#endPage(level);
  }

  async #endPage(level: number): Promise<void> {
    const node = this.#nodeOf(level);
    this.#levels[level] = { entries: [], pages: [], items: 0, bytes: 0 };
    const last = node.type === 'leaf' ? node.entries.at(-1)?.name : node.pages.at(-1)?.last;
    await this.#pushRef(level + 1, { last: last ?? '', hash: await this.#nodes.write(node), ...totalsOfNode(node) });
  }

  #nodeOf(level: number): TreeNode {
    const { entries, pages } = this.#level(level);
    return level === 0 ? { type: 'leaf', entries } : { type: 'branch', level, pages };
  }

  /** Ends the folder. Undefined when it holds nothing. */
  async finish(): Promise<WrittenFolder | undefined> {
    for (let level = 0; level < this.#levels.length; level += 1) {
      const page = this.#level(level);
      const top = level === this.#levels.length - 1;
      if (!top) {
        if (page.items > 0) await this.#endPage(level);
        continue;
      }
      const [only, ...others] = page.pages;
      if (only !== undefined && others.length === 0) return await this.#rootBelow(only);
      if (page.items === 0) return undefined;
      const node = this.#nodeOf(level);
      const inEntry = node.type === 'leaf' && isSmall(page.bytes, this.#store.pageLimits);
      return { tree: inEntry ? node : await this.#nodes.write(node), totals: totalsOfNode(node) };
    }
    return undefined;
  }

  /**
   * A page that is alone on its level is the root, or leads to it: a branch that was taken over may lead to one page only
   * (the last one of its level may, and now it is the only one), and a leaf that was taken over may be small. A page that
   * was ended by the rule is neither.
   */
  async #rootBelow({ hash, files, folders, bytes }: PageRef): Promise<WrittenFolder> {
    const totals = { files, folders, bytes };
    if (!this.#tookPages) return { tree: hash, totals };
    // Written just now, it may not be readable yet.
    await this.#nodes.flush();
    for (let tree = hash; ; ) {
      const node = await this.#store.readNode(tree, this.#options);
      if (node.type === 'leaf') {
        return isSmall(leafBytes(node), this.#store.pageLimits)
          ? { tree: node, totals: totalsOfNode(node) }
          : { tree, totals };
      }
      const [first, ...others] = node.pages;
      if (first === undefined || others.length > 0) return { tree, totals };
      tree = first.hash;
    }
  }
}

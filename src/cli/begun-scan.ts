/**
 * The scan of a folder that is begun while the repository is being opened: most of that time goes to turning the passphrase into
 * a key, and the folder is looked at meanwhile.
 *
 * What a scan does not find was removed since the snapshot that it is compared with. So it may only be compared with a
 * snapshot that was there before the first look: the ETag of the head is asked for first, which needs no key, and where
 * the head has moved since then the look is worth nothing.
 */
import { FolderListing } from '../archive/folder-listing.ts';
import { checkFolder } from '../archive/folder-source.ts';
import { checkSourceName } from '../journal/source-name.ts';
import type { Containers } from '../repository.ts';
import { repositoryNames, type Settings } from '../settings.ts';
import { headEtag } from '../snapshots/snapshot-store.ts';

interface BegunScanOptions {
  readonly settings: Settings;
  readonly containers: Containers;
  readonly folder: string;
  readonly source: string;
  readonly now: () => Date;
  readonly signal: AbortSignal;
}

export class BegunScan {
  readonly #stop = new AbortController();
  /** Undefined where it could not be begun: why, the scan itself will find out. */
  #begun: Promise<{ readonly etag: string | undefined; readonly listing: FolderListing } | undefined>;

  constructor(options: BegunScanOptions) {
    this.#begun = this.#begin(options).catch(() => undefined);
  }

  /**
   * Gives the listing of the folder away, where the head is the one that was there before it was begun; else it is given up.
   * Undefined from then on.
   */
  async takeListing(etag: string | undefined): Promise<FolderListing | undefined> {
    const begun = await this.#begun;
    this.#begun = Promise.resolve(undefined);
    if (begun?.etag === etag) return begun?.listing;
    begun?.listing[Symbol.dispose]();
    return undefined;
  }

  /** Looks at nothing more, unless the listing was given away. */
  [Symbol.dispose](): void {
    this.#stop.abort();
    void this.#begun.then((begun) => begun?.listing[Symbol.dispose]());
  }

  async #begin({ settings, containers, folder, source, now, signal: given }: BegunScanOptions) {
    checkSourceName(source);
    await checkFolder(folder);
    const signal = AbortSignal.any([given, this.#stop.signal]);
    const state = containers.container(repositoryNames(settings.repository).state);
    const etag = await headEtag(state, source, { signal });
    signal.throwIfAborted();
    return { etag, listing: new FolderListing(folder, now()) };
  }
}

/**
 * The command line in one file, as `npm run build` makes it in `dist/cli`: it starts in half the time of the sources, and
 * runs on a Node.js that the sources are too new for. It is used only while it is what the sources would give: while each
 * of the files that it was made from has the size and the time that it had then. Plain JavaScript, as `firn.js` is.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

export const BUNDLE_ENTRY = 'index.cjs';
/** Beside the bundle: what it was made from. */
export const MADE_FROM = 'made-from.txt';

/**
 * @param {string} root the folder of Firn
 * @returns {string}
 */
export function bundleFolder(root) {
  return path.join(root, 'dist', 'cli');
}

/**
 * Names, sizes and times of all that the bundle is made from; the lock file stands for the packages.
 *
 * @param {string} root the folder of Firn
 * @returns {string}
 */
export function sourcesNow(root) {
  const files = ['package.json', 'package-lock.json', 'build.ts'];
  for (const entry of readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) files.push(path.relative(root, path.join(entry.parentPath, entry.name)));
  }
  return files
    .sort()
    .map((file) => {
      const { size, mtimeMs } = statSync(path.join(root, file));
      return `${file} ${size} ${mtimeMs}\n`;
    })
    .join('');
}

/**
 * The file to load, or undefined where there is none or the sources have changed since.
 *
 * @param {string} root the folder of Firn
 * @returns {string | undefined}
 */
export function currentBundle(root) {
  const folder = bundleFolder(root);
  try {
    const isCurrent = readFileSync(path.join(folder, MADE_FROM), 'utf8') === sourcesNow(root);
    return isCurrent ? path.join(folder, BUNDLE_ENTRY) : undefined;
  } catch {
    return undefined;
  }
}

/** The version of this Firn, as its package says. */
import packageJson from '../../package.json' with { type: 'json' };

export const firnVersion: string = packageJson.version;

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { numberSettings, readSettings, readStorageConnection } from '../src/settings.ts';

function codeOf(read: () => unknown): unknown {
  try {
    read();
    return 'accepted';
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
}

describe('readSettings', () => {
  test('everything has a default that lies within its limits, and nothing is warned about', () => {
    const { settings, warnings } = readSettings({});
    expect(warnings).toEqual([]);
    expect(settings).toMatchObject({ repository: 'firn', inbox: 'keep', chunkTier: 'Hot', passphrase: undefined });
    for (const [key, row] of Object.entries(numberSettings)) {
      expect(settings).toHaveProperty(key, row.fallback);
      expect(row.fallback).toBeGreaterThanOrEqual(row.min);
      expect(row.fallback).toBeLessThanOrEqual(row.max);
    }
  });

  test('any whole number ends within the limits, and moving it there is reported by name', () => {
    const rows = Object.entries(numberSettings);
    fc.assert(
      fc.property(fc.constantFrom(...rows), fc.maxSafeInteger(), ([key, row], value) => {
        const { settings, warnings } = readSettings({ [row.env]: String(value) });
        const used = settings[key as keyof typeof numberSettings];
        expect(used).toBe(Math.min(Math.max(value, row.min), row.max));
        expect(warnings.length).toBe(used === value ? 0 : 1);
        if (used !== value) expect(warnings[0]).toContain(row.env);
      }),
    );
  });

  test('a reference to Key Vault that was not resolved never becomes the passphrase', () => {
    const { settings, warnings } = readSettings({
      FIRN_PASSPHRASE: '@Microsoft.KeyVault(SecretUri=https://v/secrets/s)',
    });
    expect(settings.passphrase).toBeUndefined();
    expect(warnings).toEqual([expect.stringContaining('FIRN_PASSPHRASE')]);
  });

  test.each(['many', '1.5', '1e999', '0x10', '12 MB', 'NaN', '99999999999999999999'])(
    'a value that cannot be read (%s) is an error that names the setting',
    (value) => {
      expect(() => readSettings({ FIRN_BATCH_RECORDS_MAX: value })).toThrow(/FIRN_BATCH_RECORDS_MAX/);
      expect(codeOf(() => readSettings({ FIRN_BATCH_RECORDS_MAX: value }))).toBe('FIRN_SETTING_INVALID');
    },
  );

  test('an empty value counts as absent', () => {
    expect(readSettings({ FIRN_BATCH_RECORDS_MAX: '', FIRN_PASSPHRASE: '' })).toEqual(readSettings({}));
  });

  test.each(['Firn', 'a--b', '-a', 'a_b', 'x'.repeat(49)])('the repository name %s is refused', (name) => {
    expect(codeOf(() => readSettings({ FIRN_REPOSITORY: name }))).toBe('FIRN_SETTING_INVALID');
  });

  test('words are read in any case, others are refused', () => {
    expect(readSettings({ FIRN_CHUNK_TIER: 'cold', FIRN_INBOX: 'Consume' }).settings).toMatchObject({
      chunkTier: 'Cold',
      inbox: 'consume',
    });
    expect(codeOf(() => readSettings({ FIRN_INBOX: 'eat' }))).toBe('FIRN_SETTING_INVALID');
  });
});

describe('readStorageConnection', () => {
  test('takes a connection string, or the identity-based form', () => {
    expect(readStorageConnection({ FIRN_STORAGE: 'UseDevelopmentStorage=true' })).toEqual({
      connectionString: 'UseDevelopmentStorage=true',
    });
    expect(readStorageConnection({ FIRN_STORAGE__blobServiceUri: 'https://x.blob.core.windows.net' })).toEqual({
      blobServiceUri: 'https://x.blob.core.windows.net',
      queueServiceUri: 'https://x.queue.core.windows.net',
      clientId: undefined,
    });
  });

  test('names the setting when there is neither', () => {
    expect(codeOf(() => readStorageConnection({}))).toBe('FIRN_SETTING_MISSING');
  });
});

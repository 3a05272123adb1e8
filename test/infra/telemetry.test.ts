/** Holds the queries of `infra/queries` and the tables of docs/operations.md to what the functions say and measure. */
import { describe, expect, test } from 'vitest';
import { metricTable } from '../../functions/shared/metrics.ts';
import { errorCodes } from '../../src/errors.ts';
import { filesOf, ofType, only, propertiesOf, textOf } from './deployed.ts';

const events = textOf('functions/shared/events.ts');
const namesOf = (pattern: RegExp, text: string) => [...text.matchAll(pattern)].map(([, name = '']) => name);
/** The interface `Fields`, and the type `EventName`. */
const fields = namesOf(
  /readonly (\w+)\?:/g,
  events.slice(events.indexOf('export interface Fields')).split('\n}\n')[0] ?? '',
);
const eventNames = namesOf(/\| '(firn\.[\w-]+)'/g, events);
/** Comments tell people what a query is for. */
const queryOf = (file: string) => textOf(file).replaceAll(/^\/\/.*$/gm, '');
const files = filesOf('infra/queries/*.kql');

test('there is a query for each question, and the workbook has the three that need no input', () => {
  expect(files.map((file) => file.split('/').at(-1)).toSorted()).toEqual([
    'cost.kql',
    'healthy.kql',
    'run.kql',
    'stuck.kql',
  ]);
  const { serializedData } = propertiesOf(only(ofType('Microsoft.Insights/workbooks')));
  const { items } = JSON.parse(String(serializedData)) as { items: { content: { query: string } }[] };
  const shown = items.map(({ content }) => content.query);
  expect(shown).toEqual(['healthy', 'cost', 'stuck'].map((name) => textOf(`infra/queries/${name}.kql`)));
});

describe.each(files)('%s', (file) => {
  const query = queryOf(file);

  test('looks for events and codes that there are, in fields that they may have', () => {
    const named = namesOf(/"(firn\.[\w-]*[\w])"/g, query);
    for (const name of named) expect(eventNames).toContain(name);
    const read = namesOf(/\bEvent\.(\w+)/g, query).filter((name) => name !== 'event');
    expect(read.length).toBeGreaterThan(0);
    for (const name of read) expect(fields).toContain(name);
    for (const code of query.match(/FIRN_\w+/g) ?? []) expect(Object.keys(errorCodes)).toContain(code);
  });

  test('takes the fields from the end of the line as the functions write them', () => {
    const pattern = /extract\(@'([^']+)'/.exec(query)?.[1] ?? '';
    const line = `batch a/b: archived {x} ${JSON.stringify({ event: 'firn.batch', source: 'a' })}`;
    expect(JSON.parse(new RegExp(pattern).exec(line)?.[1] ?? '')).toEqual({ event: 'firn.batch', source: 'a' });
  });
});

describe('docs/operations.md', () => {
  const operations = textOf('docs/operations.md');
  const rows = new Map(namesOf(/^\| (`firn\..*)$/gm, operations).map((row) => [row.split('`')[1], row]));

  test.each(Object.entries(metricTable))(
    'names the metric %s with its unit and what it is',
    (name, { unit, about }) => {
      expect(rows.get(name)).toContain(`| ${unit} | ${about}`);
    },
  );

  test.each(eventNames)('names the event %s', (name) => {
    expect(rows.has(name)).toBe(true);
  });

  test('names no other', () => {
    expect([...rows.keys()].toSorted()).toEqual([...Object.keys(metricTable), ...eventNames].toSorted());
  });
});

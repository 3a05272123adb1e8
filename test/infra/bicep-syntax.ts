/**
 * Reads the part of Bicep that `infra/` uses, so that tests can look at it on a machine without the compiler: parameters,
 * variables, resources, modules and outputs, and their expressions. It is no compiler: types are skipped. What it does not
 * know is an error that names file and line.
 */

export type Expression =
  | { readonly is: 'value'; readonly value: string | number | boolean | null }
  | { readonly is: 'text'; readonly parts: readonly Expression[] }
  | { readonly is: 'object'; readonly entries: readonly { readonly key: Expression; readonly value: Expression }[] }
  | { readonly is: 'array'; readonly items: readonly Expression[] }
  | {
      readonly is: 'for';
      readonly item: string;
      readonly at?: string;
      readonly in: Expression;
      readonly body: Expression;
    }
  | { readonly is: 'name'; readonly name: string }
  | { readonly is: 'member'; readonly of: Expression; readonly key: Expression }
  | { readonly is: 'call'; readonly name: string; readonly args: readonly Expression[] }
  | { readonly is: 'not'; readonly of: Expression }
  | { readonly is: 'operation'; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | { readonly is: 'choice'; readonly test: Expression; readonly yes: Expression; readonly no: Expression };

export interface Declaration {
  readonly kind: 'param' | 'var' | 'output' | 'resource' | 'module';
  readonly name: string;
  /** `Microsoft.…/…@version` of a resource, the path of a module, else empty. */
  readonly target: string;
  readonly existing: boolean;
  /** By name; the arguments of `@allowed([…])` and its like. */
  readonly decorators: ReadonlyMap<string, readonly Expression[]>;
  readonly condition: Expression | undefined;
  /** The value of a variable or output, the default of a parameter, the body of a resource or module. */
  readonly value: Expression | undefined;
  /** Resources declared inside the body of a resource. */
  readonly nested: readonly Declaration[];
}

interface Token {
  readonly is: 'name' | 'number' | 'text' | 'sign' | 'line' | 'end';
  readonly text: string;
  readonly parts?: readonly Expression[];
  readonly line: number;
}

const signs = /^(?:==|!=|<=|>=|&&|\|\||\?\?|\.\?|=>|[{}[\]():,.?=!@<>|+*/%-])/;

export function parseBicep(source: string, file: string): Declaration[] {
  const tokens = tokensOf(source, file);
  let next = 0;

  const peek = (): Token => tokens[next] as Token;
  const fail = (wanted: string): never => {
    throw new SyntaxError(`${file}:${peek().line}: ${wanted} expected, «${peek().text}» found`);
  };
  const take = (): Token => tokens[next++] as Token;
  const isSign = (text: string): boolean => peek().is === 'sign' && peek().text === text;
  const isName = (text?: string): boolean => peek().is === 'name' && (text === undefined || peek().text === text);
  const tryTake = (text: string): boolean => isSign(text) && take() !== undefined;
  const expect = (text: string): void => void (tryTake(text) || fail(text));
  const expectName = (text?: string): string => (isName(text) ? take().text : fail(text ?? 'a name'));
  const skipLines = (): void => {
    while (peek().is === 'line') take();
  };
  /** Line ends are of no meaning before the sign that goes on with an expression. */
  const continues = (...texts: string[]): boolean => {
    let at = next;
    while (tokens[at]?.is === 'line') at += 1;
    const token = tokens[at];
    if (token?.is !== 'sign' || !texts.includes(token.text)) return false;
    next = at;
    return true;
  };

  function list<T>(close: string, item: () => T): T[] {
    const items: T[] = [];
    for (skipLines(); !tryTake(close); skipLines()) {
      items.push(item());
      skipLines();
      tryTake(',');
    }
    return items;
  }

  function primary(): Expression {
    const token = take();
    if (token.is === 'number') return { is: 'value', value: Number(token.text) };
    if (token.is === 'text') return { is: 'text', parts: token.parts ?? [] };
    if (token.is === 'sign' && token.text === '(') {
      skipLines();
      const inner = expression();
      skipLines();
      expect(')');
      return inner;
    }
    if (token.is === 'sign' && token.text === '!') return { is: 'not', of: postfix() };
    if (token.is === 'sign' && token.text === '{') return objectBody([]);
    if (token.is === 'sign' && token.text === '[') {
      skipLines();
      return isName('for') ? loop() : { is: 'array', items: list(']', expression) };
    }
    if (token.is === 'name') {
      if (token.text === 'true' || token.text === 'false') return { is: 'value', value: token.text === 'true' };
      if (token.text === 'null') return { is: 'value', value: null };
      if (tryTake('(')) return { is: 'call', name: token.text, args: list(')', expression) };
      return { is: 'name', name: token.text };
    }
    next -= 1;
    return fail('an expression');
  }

  function loop(): Expression {
    expectName('for');
    const pair = tryTake('(');
    const item = expectName();
    const at = pair && tryTake(',') ? expectName() : undefined;
    if (pair) expect(')');
    expectName('in');
    const over = expression();
    expect(':');
    skipLines();
    const body = expression();
    skipLines();
    expect(']');
    return { is: 'for', item, ...(at !== undefined && { at }), in: over, body };
  }

  function objectBody(nested: Declaration[]): Expression {
    const entries: { key: Expression; value: Expression }[] = [];
    for (skipLines(); !tryTake('}'); skipLines()) {
      if (isSign('@') || (isName('resource') && tokens[next + 1]?.is === 'name')) {
        nested.push(declaration());
        continue;
      }
      const key: Expression =
        peek().is === 'text' ? primary() : { is: 'text', parts: [{ is: 'value', value: expectName() }] };
      expect(':');
      skipLines();
      entries.push({ key, value: expression() });
      tryTake(',');
    }
    return { is: 'object', entries };
  }

  function postfix(): Expression {
    let of = primary();
    for (;;) {
      if (tryTake('.') || tryTake('.?')) {
        of = { is: 'member', of, key: { is: 'value', value: expectName() } };
      } else if (isSign('!') && tokens[next + 1]?.text === '.') {
        take();
      } else if (tryTake('[')) {
        of = { is: 'member', of, key: expression() };
        expect(']');
      } else return of;
    }
  }

  function operations(): Expression {
    let left = postfix();
    while (continues('==', '!=', '&&', '||', '??', '<', '>', '<=', '>=', '+', '-', '*', '/', '%')) {
      const operator = take().text;
      skipLines();
      left = { is: 'operation', operator, left, right: postfix() };
    }
    return left;
  }

  function expression(): Expression {
    const test = operations();
    if (!continues('?')) return test;
    take();
    skipLines();
    const yes = expression();
    if (!continues(':')) fail(':');
    take();
    skipLines();
    return { is: 'choice', test, yes, no: expression() };
  }

  function declaration(): Declaration {
    const decorators = new Map<string, readonly Expression[]>();
    while (tryTake('@')) {
      const name = expectName();
      expect('(');
      decorators.set(name, list(')', expression));
      skipLines();
    }
    const kind = expectName() as Declaration['kind'];
    if (!['param', 'var', 'output', 'resource', 'module'].includes(kind)) fail('a declaration');
    const name = expectName();
    const nested: Declaration[] = [];
    const base = { kind, name, decorators, nested, target: '', existing: false, condition: undefined };
    if (kind === 'resource' || kind === 'module') {
      const target = textOf(primary());
      const existing = isName('existing') && take() !== undefined;
      expect('=');
      if (isName('if')) {
        take();
        const condition = primary();
        expect('{');
        return { ...base, target, existing, condition, value: objectBody(nested) };
      }
      if (tryTake('{')) return { ...base, target, existing, value: objectBody(nested) };
      return { ...base, target, existing, value: primary() };
    }
    // The type is skipped.
    if (kind !== 'var') while (!['line', 'end'].includes(peek().is) && !isSign('=')) take();
    return { ...base, value: tryTake('=') ? expression() : undefined };
  }

  const declarations: Declaration[] = [];
  for (skipLines(); peek().is !== 'end'; skipLines()) {
    if (isName('targetScope')) {
      take();
      expect('=');
      expression();
    } else declarations.push(declaration());
  }
  return declarations;
}

export function textOf(expression: Expression): string {
  const [part, ...more] = expression.is === 'text' ? expression.parts : [];
  if (part === undefined || part.is !== 'value' || more.length > 0) throw new SyntaxError('a plain text expected');
  return String(part.value);
}

function tokensOf(source: string, file: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  while (at < source.length) {
    const rest = source.slice(at);
    const skipped = /^(?:[ \t\r]+|\/\/[^\n]*)/.exec(rest)?.[0];
    const word = /^(?:(?<name>[A-Za-z_]\w*)|(?<number>\d+))/.exec(rest);
    const sign = signs.exec(rest)?.[0];
    if (skipped !== undefined) at += skipped.length;
    else if (rest.startsWith('\n')) {
      tokens.push({ is: 'line', text: 'end of line', line });
      line += 1;
      at += 1;
    } else if (rest.startsWith("'")) {
      const { parts, end } = textAt(source, at, file, line);
      tokens.push({ is: 'text', text: source.slice(at, end), parts, line });
      at = end;
    } else if (word !== null) {
      tokens.push({ is: word.groups?.name === undefined ? 'number' : 'name', text: word[0], line });
      at += word[0].length;
    } else if (sign !== undefined) {
      tokens.push({ is: 'sign', text: sign, line });
      at += sign.length;
    } else throw new SyntaxError(`${file}:${line}: «${rest[0]}» is not understood`);
  }
  return [...tokens, { is: 'line', text: 'end of line', line }, { is: 'end', text: 'end of file', line }];
}

/** The parts of a text in quotes, with what is in `${…}` parsed. @returns also the place after its closing quote. */
function textAt(source: string, start: number, file: string, line: number): { parts: Expression[]; end: number } {
  const parts: Expression[] = [];
  let plain = '';
  let at = start + 1;
  const flush = (): void => {
    if (plain !== '') parts.push({ is: 'value', value: plain });
    plain = '';
  };
  for (; source[at] !== "'"; at += 1) {
    if (at >= source.length || source[at] === '\n') throw new SyntaxError(`${file}:${line}: a text has no end`);
    if (source[at] === '\\') {
      at += 1;
      plain += source[at];
    } else if (source.startsWith('${', at)) {
      flush();
      let depth = 1;
      const open = at + 2;
      for (at = open; depth > 0; at += 1) {
        if (source[at] === "'") at = textAt(source, at, file, line).end;
        if (source[at] === '{') depth += 1;
        if (source[at] === '}') depth -= 1;
      }
      at -= 1;
      const [inner] = parseBicep(`var part = ${source.slice(open, at)}`, file);
      if (inner?.value !== undefined) parts.push(inner.value);
    } else plain += source[at];
  }
  flush();
  return { parts: parts.length === 0 ? [{ is: 'value', value: '' }] : parts, end: at + 1 };
}

/**
 * What a Bicep file deploys, worked out from its sources for given parameters: every resource of it and its modules, with
 * names and properties. What only Azure knows is a text in «», such as `«stfirnTOKEN.properties.primaryEndpoints.blob»`.
 *
 * It refuses what a compiler would refuse and what a typing error makes: names that are not declared, parameters a module
 * does not have or is not given, values that are not allowed, unknown functions.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Declaration, type Expression, parseBicep } from './bicep-syntax.ts';

export type Value = string | number | boolean | null | Value[] | { [key: string]: Value } | Handle;

/** A declared resource or module, as expressions refer to it. */
export interface Handle {
  readonly [handle]: 'resource' | 'module';
  /** As it is written; `path` begins with the names of what it lies in. */
  readonly name: string;
  readonly path: string;
  readonly id: string;
  readonly outputs: ReadonlyMap<string, Value>;
}
const handle = Symbol('handle');

export interface Deployed {
  readonly type: string;
  readonly apiVersion: string;
  readonly name: string;
  readonly id: string;
  readonly body: { readonly [key: string]: Value };
  /** The module that declares it, relative to the folder of the main file. */
  readonly file: string;
  /** Names of its decorators. */
  readonly decorators: readonly string[];
}

export interface Deployment {
  readonly resources: readonly Deployed[];
  readonly outputs: ReadonlyMap<string, Value>;
  readonly parameters: ReadonlyMap<string, Declaration>;
}

/** @param parameters of the file; others have their defaults. */
export function deploymentOf(file: string, parameters: { readonly [name: string]: Value } = {}): Deployment {
  const resources: Deployed[] = [];
  const { outputs, declared } = expand(file, parameters, resources, path.dirname(file));
  return { resources, outputs, parameters: declared };
}

function expand(
  file: string,
  parameters: { readonly [name: string]: Value },
  resources: Deployed[],
  root: string,
): { outputs: Map<string, Value>; declared: Map<string, Declaration> } {
  const declarations = parseBicep(readFileSync(file, 'utf8'), path.relative(root, file));
  const all = declarations.flatMap((each) => [each, ...each.nested]);
  const byName = new Map(all.filter(({ kind }) => kind !== 'output').map((each) => [each.name, each]));
  const names = new Map<string, Value>();
  const underWay = new Set<string>();
  const declared = new Map(declarations.filter(({ kind }) => kind === 'param').map((each) => [each.name, each]));

  const complain = (problem: string): never => {
    throw new Error(`${path.relative(root, file)}: ${problem}`);
  };
  for (const name of Object.keys(parameters)) if (!declared.has(name)) complain(`there is no parameter ${name}`);

  function named(name: string): Value {
    const declaration = byName.get(name) ?? complain(`there is no ${name}`);
    const known = names.get(name);
    if (known !== undefined) return known;
    if (underWay.has(name)) complain(`${name} depends on itself`);
    underWay.add(name);
    const value = worked(declaration);
    names.set(name, value);
    return value;
  }

  function worked(declaration: Declaration): Value {
    const { kind, name, value } = declaration;
    if (kind === 'param') {
      const given = parameters[name];
      const result = given ?? (value === undefined ? complain(`the parameter ${name} is not given`) : evaluate(value));
      const [allowed] = declaration.decorators.get('allowed') ?? [];
      if (allowed !== undefined && !(evaluate(allowed) as Value[]).includes(result)) {
        complain(`${name} must not be ${String(result)}`);
      }
      return result;
    }
    if (value === undefined) return complain(`${name} has no value`);
    if (kind === 'var') return evaluate(value);
    if (value.is === 'for')
      return (evaluate(value.in) as Value[]).map((item, at) => declare(declaration, value, item, at));
    return declare(declaration, value);
  }

  function declare(declaration: Declaration, body: Expression, item?: Value, at?: number): Value {
    const scope: Scope = body.is === 'for' ? { [body.item]: item ?? null, ...(body.at && { [body.at]: at ?? 0 }) } : {};
    const evaluated = evaluate(body.is === 'for' ? body.body : body, scope) as { [key: string]: Value };
    const { parent, scope: on, ...properties } = evaluated;
    const there = declaration.condition === undefined || evaluate(declaration.condition) === true;
    if (declaration.kind === 'module') {
      const target = path.join(path.dirname(file), declaration.target);
      const inner: Deployed[] = there ? resources : [];
      const { outputs } = expand(target, properties.params as { [key: string]: Value }, inner, root);
      return { [handle]: 'module', name: declaration.name, path: declaration.name, id: declaration.name, outputs };
    }
    const owner = (parent as Handle | undefined) ?? outerOf(declaration);
    const type = fullTypeOf(declaration);
    const ownName = String(properties.name);
    const name = owner === undefined ? ownName : `${owner.path}/${ownName}`;
    const id = `${type}/${name}`;
    if (there && !declaration.existing) {
      const scoped = on === undefined ? {} : { scope: (on as Handle).id };
      resources.push({
        type,
        apiVersion: apiVersionOf(declaration),
        name,
        id,
        body: { ...properties, ...scoped },
        file: path.relative(root, file),
        decorators: [...declaration.decorators.keys()],
      });
    }
    return { [handle]: 'resource', name: ownName, path: name, id, outputs: new Map() };
  }

  function outerDeclaration(declaration: Declaration): Declaration | undefined {
    return declarations.find(({ nested }) => nested.includes(declaration));
  }

  function outerOf(declaration: Declaration): Handle | undefined {
    const outer = outerDeclaration(declaration);
    return outer && (named(outer.name) as Handle);
  }

  function fullTypeOf(declaration: Declaration): string {
    const outer = outerDeclaration(declaration);
    const [type = ''] = declaration.target.split('@');
    return outer === undefined ? type : `${fullTypeOf(outer)}/${type}`;
  }

  function apiVersionOf(declaration: Declaration): string {
    return declaration.target.split('@')[1] ?? outerDeclaration(declaration)?.target.split('@')[1] ?? '';
  }

  function evaluate(expression: Expression, scope: Scope = {}): Value {
    const inner = (each: Expression): Value => evaluate(each, scope);
    switch (expression.is) {
      case 'value':
        return expression.value;
      case 'text':
        return expression.parts.map((part) => String(inner(part))).join('');
      case 'array':
        return expression.items.map(inner);
      case 'object':
        return Object.fromEntries(expression.entries.map(({ key, value }) => [String(inner(key)), inner(value)]));
      case 'for':
        return (inner(expression.in) as Value[]).map((item, at) =>
          evaluate(expression.body, {
            ...scope,
            [expression.item]: item,
            ...(expression.at && { [expression.at]: at }),
          }),
        );
      case 'name':
        return scope[expression.name] ?? named(expression.name);
      case 'not':
        return inner(expression.of) !== true;
      case 'choice':
        return inner(expression.test) === true ? inner(expression.yes) : inner(expression.no);
      case 'operation':
        return operate(expression.operator, inner(expression.left), () => inner(expression.right));
      case 'member':
        return member(inner(expression.of), inner(expression.key) as string | number);
      case 'call':
        return call(expression.name, expression.args.map(inner));
    }
  }

  function operate(operator: string, left: Value, right: () => Value): Value {
    if (operator === '==') return left === right();
    if (operator === '!=') return left !== right();
    if (operator === '&&') return left === true && right() === true;
    if (operator === '||') return left === true || right() === true;
    if (operator === '??') return left ?? right();
    return complain(`the operator ${operator} is not known here`);
  }

  function member(of: Value, key: string | number): Value {
    if (typeof of === 'string') return `«${of.replaceAll(/[«»]/g, '')}.${key}»`;
    if (typeof of === 'object' && of !== null && handle in of) {
      const resource = of as Handle;
      if (resource[handle] === 'module') {
        if (key === 'outputs') return Object.fromEntries(resource.outputs);
        return complain(`${String(key)} of a module`);
      }
      if (key === 'id' || key === 'name') return key === 'id' ? resource.id : resource.name;
      return `«${resource.name}.${key}»`;
    }
    const found = (of as { [key: string]: Value } | null)?.[key];
    return found === undefined ? complain(`there is no ${String(key)}`) : found;
  }

  function call(name: string, args: Value[]): Value {
    const [first, second, third] = args;
    const functions: { [name: string]: () => Value } = {
      concat: () => args.flat() as Value[],
      empty: () => (typeof first === 'string' || Array.isArray(first) ? first.length === 0 : first === null),
      environment: () => ({ suffixes: { storage: 'core.windows.net' } }),
      guid: () => `guid(${args.join(', ')})`,
      indexOf: () => (first as Value[]).indexOf(second ?? null),
      listKeys: () => `«keys of ${String(first)}»`,
      loadJsonContent: () => JSON.parse(readFileSync(path.join(path.dirname(file), String(first)), 'utf8')) as Value,
      loadTextContent: () => readFileSync(path.join(path.dirname(file), String(first)), 'utf8'),
      newGuid: () => '01234567-89ab-cdef-0123-456789abcdef',
      replace: () => String(first).replaceAll(String(second), String(third)),
      resourceGroup: () => `resourceGroups/${String(first)}`,
      string: () => (typeof first === 'object' ? JSON.stringify(first) : String(first)),
      subscription: () => '«subscription»',
      subscriptionResourceId: () => `${String(first)}/${String(second)}`,
      tenant: () => '«tenant»',
      union: () => Object.assign({}, ...args) as Value,
      uniqueString: () => 'TOKEN',
    };
    return (functions[name] ?? (() => complain(`the function ${name} is not known here`)))();
  }

  for (const name of declared.keys()) named(name);
  const outputs = new Map<string, Value>();
  for (const each of all) {
    if (each.kind === 'output') outputs.set(each.name, evaluate(each.value ?? { is: 'value', value: null }));
    else if (each.kind !== 'param' && each.kind !== 'var') named(each.name);
  }
  return { outputs, declared };
}

interface Scope {
  readonly [name: string]: Value;
}

/** All text in a value, keys too. */
export function textsIn(value: Value): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Array.isArray(value)
    ? value.flatMap(textsIn)
    : Object.entries(value).flatMap(([key, inner]) => [key, ...textsIn(inner)]);
}

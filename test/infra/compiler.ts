/**
 * Finds the Bicep compiler: the program that BICEP names, `bicep` on the path, or the NuGet package of this platform where
 * there is `dotnet` to fetch it. Nothing of it is kept in the project but a folder below `node_modules`.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const FETCH_MS_MAX = 120_000;
const cache = fileURLToPath(new URL('../../node_modules/.cache/bicep/', import.meta.url));

/** The oldest that knows all of what `infra/` uses; NuGet takes the oldest that it has from there on. */
const VERSION = '0.38.3';
const platforms: { readonly [platform: string]: string } = { linux: 'linux', darwin: 'osx', win32: 'win' };
const project = (id: string): string => `<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <TargetFramework>netstandard2.0</TargetFramework>
    <DisableImplicitFrameworkReferences>true</DisableImplicitFrameworkReferences>
  </PropertyGroup>
  <ItemGroup><PackageReference Include="${id}" Version="${VERSION}" ExcludeAssets="all" /></ItemGroup>
</Project>
`;

export type Compiler = { readonly program: string } | { readonly missing: string };

export async function findCompiler(environment: NodeJS.ProcessEnv = process.env): Promise<Compiler> {
  if (environment.BICEP) return { program: environment.BICEP };
  if (await works('bicep')) return { program: 'bicep' };
  if (!(await works('dotnet'))) return { missing: 'there is neither bicep nor dotnet on this machine' };
  const id = `Azure.Bicep.CommandLine.${platforms[process.platform] ?? process.platform}-${process.arch}`;
  try {
    return { program: await fetched(id) };
  } catch (error) {
    const output = error instanceof Error && 'stdout' in error ? String(error.stdout) : String(error);
    const reason = /error (NU\d+: [^\n]*?)(?: \[|\n|$)/.exec(output)?.[1] ?? output.trim().split('\n').at(-1);
    return { missing: `NuGet did not give the compiler (${reason})` };
  }
}

async function works(program: string): Promise<boolean> {
  try {
    await run(program, ['--version']);
    return true;
  } catch {
    return false;
  }
}

async function fetched(id: string): Promise<string> {
  await mkdir(cache, { recursive: true });
  await writeFile(path.join(cache, 'compiler.csproj'), project(id));
  await run('dotnet', ['restore', '--packages', path.join(cache, 'packages'), '--nologo'], {
    cwd: cache,
    timeout: FETCH_MS_MAX,
  });
  const folder = path.join(cache, 'packages', id.toLowerCase());
  const [version = ''] = (await readdir(folder)).toSorted().reverse();
  const program = path.join(folder, version, 'tools', process.platform === 'win32' ? 'bicep.exe' : 'bicep');
  await chmod(program, 0o755);
  return program;
}

/** @returns what the compiler complained about: errors and warnings, its linter's too. Empty where there is nothing. */
export async function complaintsAbout(program: string, file: string): Promise<string> {
  const environment = { ...process.env, DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '1' };
  try {
    const { stderr } = await run(program, ['build', '--stdout', file], { env: environment, maxBuffer: 64 * 1024 ** 2 });
    return stderr.trim();
  } catch (error) {
    return error instanceof Error && 'stderr' in error ? `${error.message}\n${String(error.stderr)}` : String(error);
  }
}

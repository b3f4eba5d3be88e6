/**
 * Packages of Debian and npm: what is missing, how it is fetched, which version it is.
 * Nothing of them gets into the repository.
 *
 * @module
 */

import type { Needs, ServerCase } from "./case.ts";

/** What cases need, together. */
export function together(all: readonly Needs[]): Required<Needs> {
  const union = (kind: keyof Needs) => [...new Set(all.flatMap((needs) => needs[kind] ?? []))];
  return {
    programs: union("programs"),
    debian: union("debian"),
    unpacked: union("unpacked"),
    npm: union("npm"),
  };
}

/** What of it is not there. */
export async function missing(needs: Needs, scratch: string): Promise<Required<Needs>> {
  const { programs, debian, unpacked, npm } = together([needs]);
  const [installed, found] = await Promise.all([
    Promise.all(debian.map(isInstalled)),
    Promise.all(programs.map(isProgram)),
  ]);
  return {
    programs: programs.filter((_, i) => !found[i]),
    debian: debian.filter((_, i) => !installed[i]),
    unpacked: unpacked.filter((name) => !exists(`${scratch}/unpacked/${name}/usr`)),
    npm: npm.filter((name) => {
      const [library, version] = split(name);
      return npmVersion(library, scratch) !== version;
    }),
  };
}

/** The missing ones in words; empty where nothing is. */
export function inWords({ programs, debian, unpacked, npm }: Required<Needs>): string {
  return [
    ...programs,
    ...[...debian, ...unpacked].map((name) => `${name} (Debian)`),
    ...npm.map((name) => `${name} (npm)`),
  ].join(", ");
}

/**
 * Fetches what is missing: from Debian for the machine, or unpacked into the scratch
 * directory; from npm into the scratch directory. What cannot be had stays missing.
 */
export async function install(
  { debian, unpacked, npm }: Omit<Required<Needs>, "programs">,
  scratch: string,
): Promise<void> {
  if (debian.length > 0 || unpacked.length > 0) {
    await run("apt-get", ["update", "-qq"]);
  }
  // Each on its own: one that cannot be had leaves out its own cases only. None that
  // is here may be removed for it.
  for (const name of debian) {
    await run("apt-get", ["install", "-qq", "--no-install-recommends", "--no-remove", "-y", name]);
  }
  for (const name of unpacked) {
    const downloads = `${scratch}/downloads/${name}`;
    await Deno.mkdir(downloads, { recursive: true });
    await Deno.mkdir(`${scratch}/unpacked`, { recursive: true });
    if (!await run("apt-get", ["download", "-qq", name], downloads)) continue;
    for (const { name: file } of Deno.readDirSync(downloads)) {
      await run("dpkg-deb", ["-x", `${downloads}/${file}`, `${scratch}/unpacked/${name}`]);
    }
  }
  if (npm.length > 0) {
    await Deno.mkdir(`${scratch}/npm`, { recursive: true });
    // No install scripts: they would compile what is optional here.
    const flags = ["--prefix", `${scratch}/npm`, "--no-audit", "--no-fund", "--ignore-scripts"];
    await run("npm", ["install", ...flags, ...npm]);
  }
}

/** The version of a server or a client, as it says itself. */
export async function versionOf(
  { version }: Pick<ServerCase, "version">,
  scratch: string,
): Promise<string> {
  if ("npm" in version) {
    return npmVersion(version.npm, scratch) ?? lockedVersion(version.npm) ?? "unknown";
  }
  const [program, ...args] = version;
  if (program === "dpkg-deb") {
    // Of a package that is unpacked: the file has its version.
    const downloads = `${scratch}/downloads/${args[1]}`;
    const [file] = [...Deno.readDirSync(downloads)];
    args[1] = `${downloads}/${file?.name}`;
  }
  const { stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  const words = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n");
  return /\d+(\.\d+)+/.exec(words)?.[0] ?? "unknown";
}

async function isProgram(name: string): Promise<boolean> {
  const { success } = await new Deno.Command("sh", {
    args: ["-c", 'command -v "$1"', "sh", name],
    stdout: "null",
  }).output();
  return success;
}

async function isInstalled(name: string): Promise<boolean> {
  try {
    const { stdout } = await new Deno.Command("dpkg-query", {
      args: ["-W", "-f", "${db:Status-Status}", name],
      stderr: "null",
    }).output();
    return new TextDecoder().decode(stdout) === "installed";
  } catch {
    return false; // No Debian.
  }
}

function npmVersion(library: string, scratch: string): string | undefined {
  const path = `${scratch}/npm/node_modules/${library}/package.json`;
  return exists(path) ? JSON.parse(Deno.readTextFileSync(path)).version : undefined;
}

/** Of a library that our own modules import. */
function lockedVersion(library: string): string | undefined {
  const { specifiers } = JSON.parse(
    Deno.readTextFileSync(new URL("../deno.lock", import.meta.url)),
  );
  return Object.entries<string>(specifiers)
    .find(([specifier]) => specifier.startsWith(`npm:${library}@`))?.[1]
    .replace(/_.*/, ""); // What it was installed beside.
}

function split(name: string): [library: string, version: string] {
  const at = name.lastIndexOf("@");
  return [name.slice(0, at), name.slice(at + 1)];
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

async function run(command: string, args: string[], cwd?: string): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(command, {
      args,
      ...(cwd === undefined ? {} : { cwd }),
      env: { DEBIAN_FRONTEND: "noninteractive" },
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).output();
    return success;
  } catch {
    return false; // Its absence will be told of what it should have fetched.
  }
}

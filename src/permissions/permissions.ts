/** Which of Deno's permissions are missing, found out beforehand: one message names every flag. */

import type { HostRemote, Remote } from "../base/remote.ts";
import { libcCandidates } from "../kernel/libc.ts";
import { grantOf, type LibraryCandidate, libsslCandidates } from "../kernel/library_paths.ts";
import { lockPathOf } from "../queue/lock_file.ts";

/** Where clients connect. */
export type Listen =
  | { readonly transport: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string };

export interface Needs {
  readonly remotes?: readonly Remote[];
  /** Addresses of this host to connect from; port 0: any that is free. */
  readonly sources?: readonly { readonly hostname: string; readonly port: number }[];
  readonly databases?: readonly Pick<HostRemote, "hostname" | "port">[];
  readonly listens?: readonly Listen[];
  /** Files to read. */
  readonly files?: readonly string[];
  /** Files to write. */
  readonly outputs?: readonly string[];
  readonly queues?: readonly string[];
  /** Queues to look into, and their senders' reports. */
  readonly queuesToLookInto?: readonly string[];
  /** Files in which senders say how they stand, where that is not the lock file. */
  readonly reports?: readonly string[];
  /** Whether the kernel's counters are read. */
  readonly kernel?: boolean;
  /** The C library's path, where the user gave one. */
  readonly libc?: string | undefined;
  /** OpenSSL's library, where it is used: its path where the user gave one, or `true`. */
  readonly libssl?: string | boolean;
}

/**
 * Checks that everything needed is granted. Asks nobody: a command that runs as a
 * service has nobody to answer a prompt.
 *
 * @throws {Deno.errors.NotCapable} Something is not; the message has all flags to add.
 */
export function checkPermissions(needs: Needs): void {
  const missing = missingPermissions(needs);
  if (missing.length === 0) return;
  throw new Deno.errors.NotCapable(
    `not permitted here; add to "deno run" what is missing: ${flagsOf(missing).join(" ")}`,
  );
}

/**
 * The same, after Deno has asked who sits at the terminal for what is missing. Where
 * nobody does, or with `--no-prompt`, Deno asks nobody.
 *
 * @throws {Deno.errors.NotCapable} Something was not granted; the message has all flags to add.
 */
export function requestPermissions(needs: Needs): void {
  for (const descriptor of missingPermissions(needs)) {
    // With one refused there is nothing to be gained by asking for the next.
    if (Deno.permissions.requestSync(descriptor).state !== "granted") break;
  }
  checkPermissions(needs);
}

type Missing = Deno.NetPermissionDescriptor | LibraryPermission | FilePermission;
type FilePermission = Deno.ReadPermissionDescriptor | Deno.WritePermissionDescriptor;

/** Leave to load a library. */
interface LibraryPermission extends Deno.FfiPermissionDescriptor {
  /** What follows `--allow-ffi=`, maybe several paths; `""`: none is known. */
  readonly grant: string;
  /** The option that takes a path. */
  readonly option: string;
}

export function missingPermissions(needs: Needs, isGranted = granted): Missing[] {
  const {
    remotes = [],
    databases = [],
    sources = [],
    listens = [],
    outputs = [],
    queues = [],
    reports = [],
    kernel = false,
  } = needs;
  const files = [...needs.files ?? [], ...(needs.queuesToLookInto ?? []).flatMap(filesOf)];
  const ends = [...listens, ...remotes, ...databases];
  const sockets = ends.flatMap((end) => "path" in end ? [end.path] : []);
  const wanted: Missing[] = ends.map((end) => ({
    name: "net",
    host: "path" in end ? `unix:${end.path}` : hostOf(end),
  }));
  for (const { hostname, port } of sources) {
    wanted.push({ name: "net", host: `${hostOf({ hostname, port: 0 })}:${port}` });
  }
  for (const name of ["read", "write"] as const) {
    const paths = [
      ...[...queues.flatMap(filesOf), ...reports, ...sockets],
      ...(name === "read" ? files : outputs),
    ];
    wanted.push(...paths.map((path): FilePermission => ({ name, path })));
  }
  const missing = wanted.filter((descriptor) => !isGranted(descriptor));
  const { libc, libssl = false } = needs;
  if (kernel) missing.push(...lackingLibrary("--libc", libc, libcCandidates(), isGranted));
  if (libssl !== false) {
    const path = libssl === true ? undefined : libssl;
    missing.push(...lackingLibrary("--libssl", path, libsslCandidates(), isGranted));
  }
  return missing;
}

/** @param path Where it lies, if the user has said so. */
function lackingLibrary(
  option: string,
  path: string | undefined,
  candidates: readonly LibraryCandidate[],
  isGranted: typeof granted,
): LibraryPermission[] {
  const paths = path === undefined ? candidates.map((candidate) => candidate.path) : [path];
  // None at all where sendq cannot run, which is said by whoever needs it.
  if (candidates.length === 0 || paths.some((path) => isGranted({ name: "ffi", path }))) return [];
  // Who is asked for all that is needed says which one it was granted, and not where it may lie.
  const own = candidates.filter(({ path }) => granted({ name: "ffi", path }));
  const grant = path ?? grantOf(own.length > 0 ? own : candidates);
  const wanted = { name: "ffi", grant, option } as const;
  // Where it cannot be known which of several it is, Deno asks for any.
  return [grant === "" || grant.includes(",") ? wanted : { ...wanted, path: grant }];
}

/** One flag a kind, with everything that it lacks. */
export function flagsOf(missing: readonly Missing[]): string[] {
  return (["net", "read", "write", "ffi"] as const).flatMap((name) => {
    const lacking = missing.filter((descriptor) => descriptor.name === name);
    if (lacking.length === 0) return [];
    const values = lacking.map((descriptor) => {
      if ("grant" in descriptor) return descriptor.grant || "PATH";
      return "host" in descriptor ? descriptor.host : "path" in descriptor ? descriptor.path : "";
    });
    const options = lacking.flatMap((descriptor) =>
      "grant" in descriptor && descriptor.grant === "" ? [` ${descriptor.option}=PATH`] : []
    );
    return [`--allow-${name}=${[...new Set(values)].join(",")}${options.join("")}`];
  });
}

/** A host and its port; port 0 is any port, which only a grant of the whole host covers. */
function hostOf({ hostname, port }: Pick<HostRemote, "hostname" | "port">): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return port === 0 ? host : `${host}:${port}`;
}

/** A queue's own file and its lock file; SQLite's -wal and -shm files need no grant. */
function filesOf(queue: string): string[] {
  const lock = granted({ name: "read", path: queue }) ? lockPathOf(queue) : `${queue}.lock`;
  return [queue, lock];
}

function granted(descriptor: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(descriptor).state === "granted";
}

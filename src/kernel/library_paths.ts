/** Where distributions keep shared libraries, and which of these paths are granted. */

/** A function of a library, as `Deno.dlopen` wants it. */
export function call<
  const P extends readonly Deno.NativeType[],
  const R extends Deno.NativeResultType,
>(
  parameters: P,
  result: R,
): { readonly parameters: P; readonly result: R } {
  return { parameters, result };
}

/** A place where a distribution keeps a library. */
export interface LibraryCandidate {
  /** The path, exactly as it has to be granted: Deno compares strings, not files. */
  readonly path: string;
  /** Who keeps it there. */
  readonly distributions: string;
  /** Whether another path leads to the same file there, so that granting that one is enough. */
  readonly isAlias?: true;
}

/** The machine that candidates are asked for; `Deno.build` fits. */
export interface Machine {
  readonly os: string;
  readonly arch: string;
  /** The target triple, which names the C library that Deno itself is linked with. */
  readonly target: string;
}

/** The make of C library that a Deno for this target is linked with. */
export function makeOf(target: string): "glibc" | "musl" {
  return target.includes("musl") ? "musl" : "glibc";
}

export function isSupported({ os, arch }: Machine): boolean {
  return os === "linux" && (arch === "x86_64" || arch === "aarch64");
}

/**
 * Where OpenSSL's libssl may lie, likeliest first. It brings libcrypto along, which needs
 * no grant of its own.
 *
 * @returns Empty where sendq cannot run.
 */
export function libsslCandidates(machine: Machine = Deno.build): readonly LibraryCandidate[] {
  if (!isSupported(machine)) return [];
  const { arch, target } = machine;
  const library = "libssl.so.3";
  if (makeOf(target) === "musl") {
    return [
      { path: `/usr/lib/${library}`, distributions: "Alpine, Void" },
      { path: `/lib/${library}`, distributions: "Alpine, before" },
    ];
  }
  return [
    { path: `/usr/lib/${arch}-linux-gnu/${library}`, distributions: "Debian, Ubuntu" },
    { path: `/lib64/${library}`, distributions: "Fedora, RHEL, SUSE, Amazon Linux" },
    { path: `/usr/lib/${library}`, distributions: "Arch" },
    { path: `/lib/${arch}-linux-gnu/${library}`, distributions: "Debian", isAlias: true },
    { path: `/usr/lib64/${library}`, distributions: "Fedora", isAlias: true },
  ];
}

/**
 * What the flag `--allow-ffi=` has to be followed by: the path that exists here, where
 * looking is permitted; else every path that it may have, since one that does not exist
 * does no harm.
 *
 * @param candidates Where it may lie.
 * @returns `""` where looking is permitted and none of them exists.
 */
export function grantOf(candidates: readonly LibraryCandidate[]): string {
  const looks = candidates.map(({ path }) => exists(path));
  const present = candidates.find((_, index) => looks[index] === true);
  if (present !== undefined) return present.path;
  return candidates.filter(({ isAlias }, index) => looks[index] === undefined && !isAlias)
    .map(({ path }) => path).join(",");
}

/** Whether a library may be loaded from there. Never prompts. */
export function isGranted(path: string): boolean {
  return Deno.permissions.querySync({ name: "ffi", path }).state === "granted";
}

/** Whether a library may be loaded from anywhere. Never prompts. */
export function isEverythingGranted(): boolean {
  return Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** Whether a path exists, where looking is permitted; `undefined` where it is not. */
export function exists(path: string): boolean | undefined {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

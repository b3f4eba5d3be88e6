/**
 * A place to run sendq in, as narrow as a container that was told to be: a root
 * of its own that cannot be written, one volume, a user without a name and
 * without rights, process number 1 of its own processes, nobody else's to be seen.
 *
 * @module
 */

import { noChildren } from "../kernel/helpers.ts";
import { RunningProgram } from "../support/running_program.ts";
import { type Layout, layOut, librariesOfDeno } from "./layouts.ts";
import type { MemoryLimit } from "./memory_limit.ts";

/** Nobody has this number, in no layout. */
export const UID = 20_017;

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/**
 * Where the code is, and where it is seen in a place: what was compiled for this path, as an image
 * has it compiled for its own, is used there. Otherwise each start compiles all of it anew, which
 * takes twice the memory.
 */
export const CODE: string = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

/** Lines of shell: mounts, in a mount namespace that ends with the process, and then the program. */
const ENTER = [
  "set -e",
  'root="$1"; deno="$2"; cache="$3"; code="$4"; at="$5"; volume="$6"; user="$7"; shift 7',
  'mount --bind "$root" "$root"',
  'mount --bind "$deno" "$root/usr/bin/deno"',
  'mount --bind "$cache" "$root/deno-dir"',
  'mount --bind "$code" "$root$at"',
  'mount --bind "$volume" "$root/queue"',
  'for name in null zero full random urandom; do mount --bind "/dev/$name" "$root/dev/$name"; done',
  // Other users' processes cannot be seen.
  'mount -t proc -o hidepid=2,nosuid,nodev,noexec proc "$root/proc"',
  'for path in "" /deno-dir "$at" /usr/bin/deno; do mount -o remount,bind,ro "$root$path"; done',
  // The three rights are those to enter it; with the user they are gone.
  "exec setpriv --no-new-privs --inh-caps=-all" +
  " --bounding-set=-all,+sys_chroot,+setuid,+setgid" +
  ' chroot --userspec="$user:$user" --groups="$user" "$root" "$@"',
].join("\n");

/** Why there can be no such places here; `undefined`: there can. */
export async function placeObstacle(): Promise<string | undefined> {
  const children = noChildren();
  if (children !== undefined) return children;
  if (Deno.build.target.includes("musl")) return "needs a Deno for glibc";
  const tools = ["unshare", "setpriv", "chroot", "ldd", "ldconfig"];
  for (const tool of tools) {
    try {
      await new Deno.Command(tool, { args: ["--version"], env: { PATH } }).output();
    } catch {
      return `needs the program ${tool}`;
    }
  }
  const { success, stderr } = await new Deno.Command("unshare", {
    args: [...NAMESPACES, "sh", "-c", "mount --bind /tmp /tmp && mount -t proc proc /proc"],
    env: { PATH },
  }).output();
  if (success) return undefined;
  return `no namespaces here: ${new TextDecoder().decode(stderr).trim().split("\n")[0]}`;
}

const NAMESPACES = ["--mount", "--propagation", "private", "--pid", "--fork"];

let packages: string | undefined;

/** Where Deno keeps npm packages and compiled code; those of the command are in it. */
export function packageCache(): string {
  if (packages !== undefined) return packages;
  const deno = (...args: string[]) => new Deno.Command(Deno.execPath(), { args, cwd: CODE });
  const { success, stderr } = deno("cache", "--no-lock", "src/cli/main.ts").outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const { stdout } = deno("info", "--json").outputSync();
  const { denoDir } = JSON.parse(new TextDecoder().decode(stdout));
  return packages = denoDir;
}

/** A layout on disk, with a volume for queues; both go away with it. */
export class Place implements Disposable {
  readonly layout: Layout;
  readonly #dir: string = Deno.makeTempDirSync({ prefix: "sendq-place-" });
  readonly #code: string;
  readonly #at: string;

  /**
   * @param layout How it is laid out.
   * @param code The code in it. @default {the repository}
   * @param at Where it is seen there. @default {CODE}
   */
  constructor(layout: Layout, code: string = CODE, at: string = CODE) {
    this.layout = layout;
    this.#code = code;
    this.#at = at;
    Deno.chmodSync(this.#dir, 0o755);
    const root = `${this.#dir}/root`;
    Deno.mkdirSync(root);
    layOut(layout, root, librariesOfDeno());
    for (const path of ["/deno-dir", at, "/queue"]) {
      Deno.mkdirSync(`${root}${path}`, { recursive: true });
    }
    const targets = ["null", "zero", "full", "random", "urandom"].map((name) => `dev/${name}`);
    for (const path of ["usr/bin/deno", ...targets]) Deno.writeTextFileSync(`${root}/${path}`, "");
    Deno.mkdirSync(this.volume);
    Deno.chownSync(this.volume, UID, UID);
  }

  /** The directory that is `/queue` inside. */
  get volume(): string {
    return `${this.#dir}/volume`;
  }

  /**
   * Starts Deno in it, as its process number 1.
   *
   * @param args Arguments of `deno`. The code is where it was told to be, the volume `/queue`.
   * @param options `stderr`: a file for it, instead of being heard; `limit`: how much
   *   memory it may have.
   */
  start(
    args: readonly string[],
    options: { readonly stderr?: string; readonly limit?: MemoryLimit } = {},
  ): PlacedProgram {
    const env: Record<string, string> = {
      PATH,
      HOME: "/nonexistent",
      DENO_DIR: "/deno-dir",
      DENO_NO_UPDATE_CHECK: "1",
    };
    if (this.layout.findsBy === "variable") env["LD_LIBRARY_PATH"] = this.layout.glibc;
    const outside = [
      ...(options.limit === undefined ? [] : ['echo $$ > "$1"']),
      ...(options.stderr === undefined ? [] : ['exec 2> "$2"']),
      'shift 2; exec unshare "$@"',
    ].join("\n");
    const child = new Deno.Command("sh", {
      args: [
        ...["-ec", outside, "sh", options.limit?.processes ?? "", options.stderr ?? ""],
        ...NAMESPACES,
        ...["sh", "-c", ENTER, "sh"],
        ...[
          `${this.#dir}/root`,
          Deno.execPath(),
          packageCache(),
          this.#code,
          this.#at,
          this.volume,
        ],
        String(UID),
        ...["/usr/bin/deno", ...args],
      ],
      env,
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new PlacedProgram(child);
  }

  /** Runs `sendq`, with Deno's flags and its own arguments, to its end. */
  async sendq(
    permissions: readonly string[],
    args: readonly string[],
    input = "",
  ): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
    await using program = this.start([
      ...["run", "--quiet", "--no-prompt", "--cached-only", ...permissions],
      ...[`${this.#at}/src/cli/main.ts`, ...args],
    ]);
    const code = await program.runWith(input);
    return { code, out: program.stdout, err: program.stderr };
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

/** A program in a place. */
export class PlacedProgram extends RunningProgram {
  /** Sends a signal to it: the child that is handled here only waits for it. */
  async signal(name: Deno.Signal): Promise<void> {
    const pid = await this.#pid();
    if (pid === undefined) throw new Error("it has not begun, or has ended");
    Deno.kill(pid, name);
  }

  /** Its number among this machine's processes. */
  async #pid(): Promise<number | undefined> {
    const { pid } = this.child;
    const path = `/proc/${pid}/task/${pid}/children`;
    const { stdout } = await new Deno.Command("cat", { args: [path], stderr: "null" }).output();
    const [child] = new TextDecoder().decode(stdout).trim().split(" ");
    return child ? Number(child) : undefined;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    // It is no more killed with its parent since it has another user.
    const pid = await this.#pid();
    if (pid !== undefined) Deno.kill(pid, "SIGKILL");
    await super[Symbol.asyncDispose]();
  }
}

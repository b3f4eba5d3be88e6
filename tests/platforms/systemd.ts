/**
 * A systemd that runs as process number 1 of namespaces of its own, with nothing but
 * the units that a test gives it. Its root is this machine's, and what it writes goes to
 * memory.
 *
 * @module
 */

import { noChildren } from "../kernel/helpers.ts";
import { RunningProgram } from "../support/running_program.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { packageCache } from "./place.ts";

const CODE = new URL("../..", import.meta.url).pathname;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SYSTEMD = "/lib/systemd/systemd";
/** What every unit asks for, without what a whole machine would start for it. */
const TARGETS = [
  ...["sysinit", "basic", "shutdown", "network-online", "multi-user", "sockets", "final", "umount"],
];
const JOURNAL = ["systemd-journald.service", "systemd-journald.socket"];

/** A control group of its own, which it may divide as it likes. */
const ENTER = [
  "set -e",
  'top="$1"; name="$2"; shift 2',
  'mount -t tmpfs tmpfs "$top"',
  'mkdir "$top/groups" "$top/upper" "$top/work" "$top/root"',
  'mount -t cgroup2 cgroup2 "$top/groups"',
  'mkdir "$top/groups/$name"',
  'echo $$ > "$top/groups/$name/cgroup.procs"',
  'exec unshare --pid --fork --uts --ipc --cgroup sh -c "$0" "$top" "$@"',
].join("\n");

/** Its root, and then systemd. */
const BOOT = [
  "set -e",
  'units="$1"; deno="$2"; cache="$3"; code="$4"; top="$0"; root="$top/root"',
  'mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" overlay "$root"',
  'mount --rbind /dev "$root/dev"',
  'mount -t proc proc "$root/proc"',
  // The machine's settings are not its own.
  'mount --bind "$root/proc/sys" "$root/proc/sys"; mount -o remount,bind,ro "$root/proc/sys"',
  'mount -t sysfs -o ro sysfs "$root/sys"',
  'mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"',
  'mount -t tmpfs -o mode=755 tmpfs "$root/run"',
  'mount -t tmpfs tmpfs "$root/tmp"',
  'mkdir -p "$root/opt/sendq/.deno" "$root/etc/sendq" "$root/run/units" "$root/old"',
  'for name in deno.json deno.lock mod.ts src db_sqlite_stand_in; do cp -r "$code/$name" ' +
  '"$root/opt/sendq/"; done',
  'mount --bind "$cache" "$root/opt/sendq/.deno"',
  ': > "$root/usr/local/bin/deno.bound"; mv "$root/usr/local/bin/deno.bound" ' +
  '"$root/usr/local/bin/deno"',
  'mount --bind "$deno" "$root/usr/local/bin/deno"',
  'cp -r "$units/." "$root/run/units/"',
  'mv "$root/run/units/etc/"* "$root/etc/sendq/"',
  'cd "$root"; pivot_root . old; umount -l /old',
  "export SYSTEMD_UNIT_PATH=/run/units container=sendq",
  `exec ${SYSTEMD} --system --unit=test.target --show-status=0 --log-target=journal`,
].join("\n");

/** Why no systemd can be started here; `undefined`: it can. */
export async function systemdObstacle(): Promise<string | undefined> {
  const children = noChildren();
  if (children !== undefined) return children;
  for (const program of [SYSTEMD, "systemctl", "unshare", "nsenter", "pivot_root"]) {
    try {
      await new Deno.Command(program, { args: ["--version"], env: { PATH } }).output();
    } catch {
      return `needs the program ${program}`;
    }
  }
  using dir = new TempDir();
  const mounts = [
    ...['cd "$0"', "mount -t tmpfs tmpfs .", "mkdir groups upper work root"],
    "mount -t cgroup2 cgroup2 groups",
    "mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root",
  ].join(" && ");
  const { success, stderr } = await new Deno.Command("unshare", {
    args: ["--mount", "--propagation", "private", "sh", "-c", mounts, dir.path],
  }).output();
  if (success) return undefined;
  return `no namespaces here: ${new TextDecoder().decode(stderr).trim().split("\n")[0]}`;
}

/** What a command said. */
export interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** It runs until it is disposed of, with all that it has started. */
export class Systemd implements AsyncDisposable {
  readonly #dir = new TempDir();
  readonly #name = `sendq-test-${crypto.randomUUID()}`;
  #program: RunningProgram | undefined;
  #pid = 0;

  /**
   * Starts it.
   *
   * @param units Its units, by their name, which may have a folder in front.
   * @param files What is in /etc/sendq, by its name.
   */
  static async start(
    units: Readonly<Record<string, string>>,
    files: Readonly<Record<string, string>>,
  ): Promise<Systemd> {
    const systemd = new Systemd();
    try {
      await systemd.#start(units, files);
    } catch (error) {
      await systemd[Symbol.asyncDispose]();
      throw error;
    }
    return systemd;
  }

  async #start(
    units: Readonly<Record<string, string>>,
    files: Readonly<Record<string, string>>,
  ): Promise<void> {
    const dir = this.#dir.file("units");
    for (const path of [dir, `${dir}/etc`, this.#dir.file("top")]) Deno.mkdirSync(path);
    for (const name of TARGETS) {
      Deno.writeTextFileSync(`${dir}/${name}.target`, "[Unit]\nDefaultDependencies=no\n");
    }
    Deno.writeTextFileSync(
      `${dir}/test.target`,
      // What it comes after is not forgotten once it has ended.
      `[Unit]\nDefaultDependencies=no\nWants=${JOURNAL.join(" ")}\n` +
        `After=${Object.keys(units).filter((name) => !name.includes("/")).join(" ")}\n`,
    );
    for (const name of JOURNAL) {
      Deno.copyFileSync(`/lib/systemd/system/${name}`, `${dir}/${name}`);
    }
    for (const [name, text] of Object.entries(units)) {
      const folder = name.slice(0, name.lastIndexOf("/") + 1);
      Deno.mkdirSync(`${dir}/${folder}`, { recursive: true });
      Deno.writeTextFileSync(`${dir}/${name}`, text);
    }
    for (const [name, text] of Object.entries(files)) {
      Deno.writeTextFileSync(`${dir}/etc/${name}`, text);
    }
    const child = new Deno.Command("unshare", {
      args: [
        ...["--mount", "--propagation", "private", "sh", "-c", ENTER, BOOT],
        ...[this.#dir.file("top"), this.#name],
        ...[dir, Deno.execPath(), packageCache(), CODE],
      ],
      env: { PATH, LANG: "C" },
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const program = this.#program = new RunningProgram(child);
    await until("systemd has started", async () => {
      this.#pid = await childOf(child.pid) ?? 0;
      if (this.#pid === 0) return false;
      const { code } = await this.run("systemctl", "is-active", "--quiet", "test.target");
      return code === 0;
    }).catch((error) => {
      throw new Error(`${error.message}, but: ${program.stderr}`);
    });
  }

  /** Runs a program beside its services. */
  async run(program: string, ...args: string[]): Promise<Said> {
    const inside = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"];
    const { code, stdout, stderr } = await new Deno.Command("nsenter", {
      args: ["--target", String(this.#pid), ...inside, program, ...args],
      env: { PATH, LANG: "C", SYSTEMD_PAGER: "" },
      clearEnv: true,
    }).output();
    const [out = "", err = ""] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    return { code, out, err };
  }

  /** A unit's property, as `systemctl show` gives it. */
  async property(unit: string, name: string): Promise<string> {
    return (await this.run("systemctl", "show", "--value", "-p", name, unit)).out.trim();
  }

  /** What a unit has logged. */
  async journal(unit: string): Promise<string> {
    return (await this.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)).out;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // With the first process of a namespace all others end.
    if (this.#pid !== 0) Deno.kill(this.#pid, "SIGKILL");
    await this.#program?.[Symbol.asyncDispose]();
    // A process that was killed is in its group until it has quite ended.
    const remove = 'mount -t cgroup2 cgroup2 "$0" && ' +
      'if test -d "$0/$1"; then find "$0/$1" -depth -type d -exec rmdir {} +; fi';
    await until("its groups are gone", async () => {
      const { success } = await new Deno.Command("unshare", {
        args: [
          ...["--mount", "--propagation", "private", "sh", "-c", remove],
          ...[this.#dir.file("top"), this.#name],
        ],
        stderr: "null",
      }).output();
      return success;
    });
    this.#dir[Symbol.dispose]();
  }
}

/** The one child of a process; `undefined`: there is none yet. */
async function childOf(pid: number): Promise<number | undefined> {
  const path = `/proc/${pid}/task/${pid}/children`;
  const { stdout } = await new Deno.Command("cat", { args: [path], stderr: "null" }).output();
  const [child] = new TextDecoder().decode(stdout).trim().split(" ");
  return child ? Number(child) : undefined;
}

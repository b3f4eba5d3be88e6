/**
 * Boots Debian's kernels in virtual machines, and runs in each of them what rests on the
 * kernel the most: facts that were written down, and the tests of the kernel layer, of
 * delivery and of the wire, and the cut cable.
 *
 * ```sh
 * deno task kernels                  # the newest 5.10, 6.1, 6.12 and the newest of all
 * deno task kernels 6.1 7            # the newest of these series
 * deno task kernels --list           # every kernel there is
 * deno task kernels 6.1 -- tests/tcp # other tests
 * ```
 *
 * Without the processor's help (`--kvm`) a kernel takes ten minutes and a whole core, and
 * times measured in it mean nothing. What was fetched stays in `--directory`.
 *
 * Exit codes: 0 all is well; 1 a test failed; 2 wrong usage; 77 machines cannot be made here.
 *
 * @module
 */

import {
  complain,
  machine,
  parseArguments,
  parsePositive,
  print,
  toolCommand,
  USAGE,
} from "../lab/program.ts";
import type { Facts } from "./facts.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PREPARE = `${ROOT}kernels/prepare.sh`;
const EXIT = { failed: 1, notPermitted: 77 } as const;
const SERIES = ["5.10", "6.1", "6.12", ""];
const TESTS = [
  ...["tests/kernel", "tests/delivery", "tests/simulation/wire_conformance.test.ts"],
  "tests/sender/cable.test.ts",
];
const FLAGS = [
  ...["--no-check", "--trace-leaks", "--allow-net=127.0.0.1,[::1],localhost"],
  ...["--allow-read", "--allow-write", "--allow-ffi", "--allow-run", "--allow-sys=uid,statfs"],
];
/** Programs that are needed, and Debian's packages that have them. */
const TOOLS = {
  "qemu-system-x86_64": "qemu-system-x86",
  debootstrap: "debootstrap",
  busybox: "busybox-static",
  modprobe: "kmod",
  mke2fs: "e2fsprogs",
  cpio: "cpio",
  xz: "xz-utils",
  zstd: "zstd",
  git: "git",
} as const;

interface Options {
  readonly list?: true;
  readonly directory: string;
  readonly mirror: string;
  readonly kvm?: true;
  readonly minutes: number;
}

/** What came of one set of tests in one kernel. */
interface Outcome {
  readonly tests: string;
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
  readonly seconds: number;
}

async function main(args: readonly string[]): Promise<number> {
  const command = toolCommand("kernels")
    .description("Runs tests that rest on the kernel in virtual machines with Debian's kernels.")
    .argument("[series...]", `the newest kernel of each: 6.1; behind -- the tests`)
    .option("--list", "print the kernels that there are, and end")
    .option("--directory <path>", "where what was fetched is kept", `${ROOT}.scratch/kernels`)
    .option("--mirror <url>", "Debian's archive", "http://deb.debian.org")
    .option("--kvm", "with the processor's help: many times faster, where it works")
    .option("--minutes <count>", "the longest that one may take", parsePositive, 30);
  const end = args.indexOf("--");
  const over = parseArguments(command, end < 0 ? args : args.slice(0, end));
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  const missing = await missingTools();
  if (missing !== undefined) {
    complain(`kernels: ${missing}\n`);
    return EXIT.notPermitted;
  }
  Deno.mkdirSync(options.directory, { recursive: true });
  const releases = (await prepare("list", options)).trim().split("\n");
  if (options.list) {
    print(`${releases.join("\n")}\n`);
    return 0;
  }
  const wanted = command.args.length === 0 ? SERIES : command.args;
  const chosen = wanted.map((series) =>
    releases.findLast((release) => series === "" || /^[.-]/.test(after(release, series)))
  );
  const unknown = wanted.find((_, index) => chosen[index] === undefined);
  if (unknown !== undefined) {
    complain(`kernels: there is no kernel ${unknown}; see --list\n`);
    return USAGE;
  }
  const tests = end < 0 ? TESTS : args.slice(end + 1);
  print(`On ${machine()}, ${options.kvm ? "with" : "without"} KVM\n\n`);
  await prepare("system", options);
  let failed = false;
  for (const release of chosen) {
    if (release === undefined) continue;
    await prepare("kernel", options, release);
    failed = !await runIn(release, tests, options) || failed;
  }
  return failed ? EXIT.failed : 0;
}

function after(text: string, start: string): string {
  return text.startsWith(start) ? text.slice(start.length) : "";
}

/** What has to be installed, or that only root can; `undefined`: all is there. */
async function missingTools(): Promise<string | undefined> {
  if (Deno.build.arch !== "x86_64" || Deno.uid() !== 0) return "needs root, on x86_64";
  const missing: string[] = [];
  for (const [program, package_] of Object.entries(TOOLS)) {
    const { success } = await new Deno.Command("sh", { args: ["-c", `command -v ${program}`] })
      .output();
    if (!success) missing.push(package_);
  }
  if (missing.length === 0) return undefined;
  return `not installed; apt-get install --no-install-recommends ${missing.join(" ")}`;
}

async function prepare(
  what: "list" | "kernel" | "system",
  { directory, mirror }: Options,
  ...args: string[]
): Promise<string> {
  return await done("bash", [PREPARE, what, directory, mirror, ...args]);
}

/** Runs a program to its end. Returns what it prints. */
async function done(
  program: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  const { success, stdout } = await new Deno.Command(program, {
    args,
    env,
    cwd: ROOT,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`${program} ${args.join(" ")} failed`);
  return new TextDecoder().decode(stdout);
}

/** Runs the tests in a kernel, and prints what came of them. Returns whether all went well. */
async function runIn(
  release: string,
  tests: readonly string[],
  options: Options,
): Promise<boolean> {
  const { directory } = options;
  const run = Deno.makeTempDirSync({ dir: directory, prefix: "run-" });
  try {
    Deno.writeTextFileSync(`${run}/command`, guestCommand(tests));
    const cache = `${directory}/cache`;
    const files = ["kernels/facts.ts", "tests/**/*.ts", "lab/*.ts", "src/cli/main.ts"];
    await done("bash", ["-O", "globstar", "-c", `exec "$0" cache -q ${files.join(" ")}`, deno()], {
      DENO_DIR: cache,
    });
    const disk = `${run}/work.img`;
    await done("bash", [PREPARE, "work", directory, ROOT, deno(), cache, `${run}/command`, disk]);
    const startedMs = performance.now();
    const log = `${directory}/${release}.log`;
    await boot(release, disk, log, options);
    const seconds = Math.round((performance.now() - startedMs) / 1000);
    const text = Deno.readTextFileSync(log).replaceAll("\r", "");
    return report(release, text, tests, seconds, log);
  } finally {
    Deno.removeSync(run, { recursive: true });
  }
}

function deno(): string {
  return Deno.realPathSync(Deno.execPath());
}

/** What runs in the machine: set by set, so that one that hangs costs no other. */
function guestCommand(tests: readonly string[]): string {
  const lines = ["facts=$(deno run -A --no-lock --no-check kernels/facts.ts) || echo FACTS-FAILED"];
  lines.push('echo "FACTS $facts"');
  for (const test of tests) {
    lines.push(
      "began=$SECONDS",
      `timeout 900 deno test ${FLAGS.join(" ")} ${test} >/tmp/out 2>&1; code=$?`,
      "sed 's/\\x1b\\[[0-9;]*m//g' /tmp/out >/tmp/plain",
      `echo "TESTS ${test} $code $((SECONDS - began)) $(grep -E '^(ok|FAILED) \\|' /tmp/plain)"`,
      `grep -E ' \\.\\.\\. ignored' /tmp/plain`,
      "[ $code = 0 ] || grep -vE ' \\.\\.\\. ok ' /tmp/plain | tail -200",
    );
  }
  return `${lines.join("\n")}\ntrue\n`;
}

/** Starts a machine, and waits for its end. What it prints goes to a file. */
async function boot(
  release: string,
  disk: string,
  log: string,
  { directory, kvm, minutes }: Options,
): Promise<void> {
  // Without the processor's help kernels since 6.12 die in cmpxchg16b under qemu 7.2.
  const processor = kvm ? ["kvm", "-cpu", "host"] : ["tcg", "-cpu", "max,-cx16"];
  const kernel = `${directory}/kernels/${release}`;
  const child = new Deno.Command("timeout", {
    args: [
      ...[`${minutes}m`, "nice", "qemu-system-x86_64", "-machine", "q35", "-accel", ...processor],
      ...["-smp", "2", "-m", "3072", "-kernel", `${kernel}/vmlinuz`, "-initrd", `${kernel}/initrd`],
      ...["-append", "console=ttyS0 quiet loglevel=3 panic=-1 nokaslr random.trust_cpu=on"],
      ...["-drive", `file=${directory}/system.img,format=raw,if=virtio,snapshot=on`],
      ...["-drive", `file=${disk},format=raw,if=virtio`, "-device", "virtio-rng-pci"],
      ...["-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  await child.stdout.pipeTo((await Deno.create(log)).writable);
  await child.status;
}

function report(
  release: string,
  text: string,
  tests: readonly string[],
  seconds: number,
  log: string,
): boolean {
  const [, facts] = /^FACTS (\{.*\})$/m.exec(text) ?? [];
  const known: Facts | undefined = facts === undefined ? undefined : JSON.parse(facts);
  const outcomes = tests.map((name) => outcomeOf(name, text));
  const wasWhole = /^KERNELS-END 0$/m.test(text) && known !== undefined;
  const ok = wasWhole && outcomes.every((outcome) => outcome !== undefined && outcome.failed === 0);
  print(`${release}: ${ok ? "ok" : "FAILED"}, ${seconds} s\n`);
  print(
    known === undefined
      ? "  the facts are not as written down, or could not be read\n"
      : `  facts as written down: tcp_info ${known.tcpInfoBytes} bytes, ` +
        `TCP_RTO_MAX_MS ${known.hasRtoMax ? "known" : "not known"}\n`,
  );
  for (const [index, outcome] of outcomes.entries()) {
    print(
      outcome === undefined
        ? `  ${tests[index]}: did not end\n`
        : `  ${outcome.tests}: ${outcome.passed} passed, ${outcome.failed} failed, ` +
          `${outcome.ignored} ignored, ${outcome.seconds} s\n`,
    );
  }
  for (const [line] of text.matchAll(/^.* \.\.\. ignored.*$/gm)) print(`  ${line}\n`);
  if (!ok) print(`  all that it printed: ${log}\n`);
  print("\n");
  return ok;
}

/** `undefined`: it did not come to its end. */
function outcomeOf(tests: string, text: string): Outcome | undefined {
  const line = text.split("\n").find((line) => line.startsWith(`TESTS ${tests} `));
  const [, code, seconds = "", said = ""] = /^TESTS \S+ (\d+) (\d+) (.*)$/.exec(line ?? "") ?? [];
  if (code === undefined || said === "") return undefined;
  const count = (what: string) => Number(new RegExp(`(\\d+) ${what}`).exec(said)?.[1] ?? 0);
  return {
    tests,
    passed: count("passed"),
    failed: Math.max(count("failed"), code === "0" ? 0 : 1),
    ignored: count("ignored"),
    seconds: Number(seconds),
  };
}

if (import.meta.main) Deno.exit(await main(Deno.args));

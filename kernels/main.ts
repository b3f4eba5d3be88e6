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
 * deno task kernels --arch arm64     # the newest 6.1 for aarch64
 * ```
 *
 * Without the processor's help (`--kvm`) a kernel takes half an hour and a whole core, and
 * times measured in it mean nothing. What was fetched stays in `--directory`, and in it the
 * log of each kernel, to which each set of tests adds what came of it: what did not end is
 * run again by its name behind `--`. A machine is paused, with its clock, by `stop` on the
 * Unix socket `monitor` in there, and goes on by `cont`.
 *
 * Exit codes: 0 all is well; 1 a test failed; 2 wrong usage; 77 machines cannot be made here.
 *
 * @module
 */

import { Option } from "commander";
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
/** By Debian's word for the machine: what is run, and what it takes. */
const ARCHITECTURES = {
  amd64: {
    series: ["5.10", "6.1", "6.12", ""],
    qemu: "qemu-system-x86_64",
    package: "qemu-system-x86",
    machine: "q35",
    // Without the processor's help kernels since 6.12 die in cmpxchg16b under qemu 7.2.
    emulated: "max,-cx16",
    console: "ttyS0",
  },
  arm64: {
    series: ["6.1"],
    qemu: "qemu-system-aarch64",
    package: "qemu-system-arm",
    machine: "virt",
    emulated: "cortex-a72",
    console: "ttyAMA0",
  },
} as const;
/** A Deno for aarch64, of the same version as the one that runs. */
const DENO_FOR_ARM64 = "@deno/linux-arm64-glibc";
/** It starts some processes for each call, so that in a slow machine it takes longest. */
const REFUSED_CALLS = "tests/kernel/refused_calls.test.ts";
const FLAGS = [
  ...["--no-check", "--trace-leaks", "--allow-net=127.0.0.1,[::1],localhost"],
  ...["--allow-read", "--allow-write", "--allow-ffi", "--allow-run", "--allow-sys=uid,statfs"],
];
/** Programs that are needed, and Debian's packages that have them. */
const TOOLS = {
  debootstrap: "debootstrap",
  modprobe: "kmod",
  mke2fs: "e2fsprogs",
  cpio: "cpio",
  xz: "xz-utils",
  zstd: "zstd",
  git: "git",
} as const;

interface Options {
  readonly list?: true;
  readonly arch: keyof typeof ARCHITECTURES;
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
    .addOption(
      new Option("--arch <arch>", "the machine, by Debian's word")
        .choices(Object.keys(ARCHITECTURES)).default("amd64"),
    )
    .option("--directory <path>", "where what was fetched is kept", `${ROOT}.scratch/kernels`)
    .option("--mirror <url>", "Debian's archive", "http://deb.debian.org")
    .option("--kvm", "with the processor's help: many times faster, where it works")
    .option("--minutes <count>", "the longest that one may take", parsePositive, 60);
  const end = args.indexOf("--");
  const over = parseArguments(command, end < 0 ? args : args.slice(0, end));
  if (over !== undefined) return over;
  const options = command.opts<Options>();
  const missing = await missingTools(options);
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
  const wanted = command.args.length === 0 ? ARCHITECTURES[options.arch].series : command.args;
  const chosen = wanted.map((series) =>
    releases.findLast((release) => series === "" || /^[.-]/.test(after(release, series)))
  );
  const unknown = wanted.find((_, index) => chosen[index] === undefined);
  if (unknown !== undefined) {
    complain(`kernels: there is no kernel ${unknown}; see --list\n`);
    return USAGE;
  }
  const tests = end < 0 ? standardTests() : args.slice(end + 1);
  print(`On ${machine()}, ${options.kvm ? "with" : "without"} KVM\n\n`);
  await prepare("system", options);
  const deno = await denoFor(options);
  let failed = false;
  for (const release of chosen) {
    if (release === undefined) continue;
    await prepare("kernel", options, release);
    failed = !await runIn(release, tests, deno, options) || failed;
  }
  return failed ? EXIT.failed : 0;
}

/** File by file where they take long, so that one that hangs costs no other. */
function standardTests(): string[] {
  const kernel = [...Deno.readDirSync(`${ROOT}tests/kernel`)]
    .filter(({ name }) => name.endsWith(".test.ts"))
    .map(({ name }) => `tests/kernel/${name}`)
    .filter((path) => path !== REFUSED_CALLS)
    .toSorted();
  return [
    ...["tests/delivery", "tests/simulation/wire_conformance.test.ts"],
    ...["tests/sender/cable.test.ts", ...kernel, REFUSED_CALLS],
  ];
}

function after(text: string, start: string): string {
  return text.startsWith(start) ? text.slice(start.length) : "";
}

/** What has to be installed, or that only root can; `undefined`: all is there. */
async function missingTools({ arch, kvm }: Options): Promise<string | undefined> {
  if (Deno.build.arch !== "x86_64" || Deno.uid() !== 0) return "needs root, on x86_64";
  if (kvm && arch !== "amd64") return "this processor helps with amd64 only: leave --kvm out";
  const { qemu, package: itsPackage } = ARCHITECTURES[arch];
  const missing: string[] = [];
  for (const [program, package_] of Object.entries({ ...TOOLS, [qemu]: itsPackage })) {
    const { success } = await new Deno.Command("sh", { args: ["-c", `command -v ${program}`] })
      .output();
    if (!success) missing.push(package_);
  }
  if (missing.length === 0) return undefined;
  return `not installed; apt-get install --no-install-recommends ${missing.join(" ")}`;
}

async function prepare(
  what: "list" | "kernel" | "system",
  { directory, arch, mirror }: Options,
  ...args: string[]
): Promise<string> {
  return await done("bash", [PREPARE, what, directory, arch, mirror, ...args]);
}

/** The Deno that runs in the machine. */
async function denoFor({ arch, directory }: Options): Promise<string> {
  if (arch === "amd64") return here();
  const { version } = Deno;
  const cache = `${directory}/deno-${arch}`;
  await done(here(), [
    ...["cache", "-q", "--no-config", "--no-lock", `npm:${DENO_FOR_ARM64}@${version.deno}`],
  ], { DENO_DIR: cache });
  return `${cache}/npm/registry.npmjs.org/${DENO_FOR_ARM64}/${version.deno}/deno`;
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
  deno: string,
  options: Options,
): Promise<boolean> {
  const { directory, arch } = options;
  const run = Deno.makeTempDirSync({ dir: directory, prefix: "run-" });
  try {
    Deno.writeTextFileSync(`${run}/command`, guestCommand(tests));
    const cache = `${directory}/cache`;
    const files = ["kernels/facts.ts", "tests/**/*.ts", "lab/*.ts", "src/cli/main.ts"];
    await done("bash", ["-O", "globstar", "-c", `exec "$0" cache -q ${files.join(" ")}`, here()], {
      DENO_DIR: cache,
    });
    const disk = `${run}/work.img`;
    const command = `${run}/command`;
    await done("bash", [PREPARE, "work", directory, arch, ROOT, deno, cache, command, disk]);
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

function here(): string {
  return Deno.realPathSync(Deno.execPath());
}

/** What runs in the machine: set by set, so that one that hangs costs no other. */
function guestCommand(tests: readonly string[]): string {
  const lines = ["facts=$(deno run -A --no-lock --no-check kernels/facts.ts) || echo FACTS-FAILED"];
  lines.push('echo "FACTS $facts"');
  for (const test of tests) {
    lines.push(
      "began=$SECONDS",
      `timeout 1800 deno test ${FLAGS.join(" ")} ${test} >/tmp/out 2>&1; code=$?`,
      "sed 's/\\x1b\\[[0-9;]*m//g' /tmp/out >/tmp/plain",
      `echo "TESTS ${test} $code $((SECONDS - began)) $(grep -E '^(ok|FAILED) \\|' /tmp/plain)"`,
      `grep -E ' \\.\\.\\. ignored' /tmp/plain`,
      "[ $code = 0 ] || grep -vE ' \\.\\.\\. ok ' /tmp/plain | tail -200",
    );
  }
  return `${lines.join("\n")}\ntrue\n`;
}

/**
 * Starts a machine, and waits for its end. What it prints goes to a file, and not through
 * this process, so that it can be followed.
 */
async function boot(
  release: string,
  disk: string,
  log: string,
  { directory, arch, kvm, minutes }: Options,
): Promise<void> {
  const { qemu, machine: board, emulated, console: port } = ARCHITECTURES[arch];
  const processor = kvm ? ["kvm", "-cpu", "host"] : ["tcg", "-cpu", emulated];
  const kernel = `${directory}/kernels/${release}`;
  const system = `${directory}/system-${arch}.img`;
  const child = new Deno.Command("sh", {
    args: [
      ...["-c", 'exec timeout "$@" >"$0"', log, `${minutes}m`, "nice", "-n", "19"],
      ...[qemu, "-machine", board, "-accel", ...processor, "-smp", "2", "-m", "3072"],
      ...["-kernel", `${kernel}/vmlinuz`, "-initrd", `${kernel}/initrd`],
      "-append",
      `console=${port} quiet loglevel=3 panic=-1 nokaslr random.trust_cpu=on`,
      ...["-drive", `file=${system},format=raw,if=virtio,snapshot=on`],
      ...["-drive", `file=${disk},format=raw,if=virtio`, "-device", "virtio-rng-pci"],
      ...["-nic", "none", "-display", "none", "-serial", "stdio", "-no-reboot"],
      ...["-monitor", `unix:${directory}/monitor,server=on,wait=off`],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
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

/**
 * Runs the command: in this process where the point is what it understands and
 * prints, and as a process with the permissions that its help names, and no
 * others, where the point is a permission, a signal, a pipe or a terminal.
 */
import { main } from "../../src/cli/main.ts";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { bytes } from "../support/bytes.ts";
import { RunningProgram } from "../support/running_program.ts";

export const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** The C library of this machine. */
export const LIBC = libcCandidates().map(({ path }) => path).find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}) ?? "";

/**
 * Why a program that a test needs cannot be used, for the test's name; empty
 * where it can.
 */
export async function leftOutWithout(program: string, ...args: string[]): Promise<string> {
  try {
    const { success } = await new Deno.Command(program, { args }).output();
    return success ? "" : ` (left out: the program "${program}" failed)`;
  } catch {
    return ` (left out: the program "${program}" is not installed)`;
  }
}

/** The permissions that the help of `send` names. */
export function sendPermissions(remote: string, queue: string): string[] {
  const socket = remote.startsWith("unix:") ? `,${remote.slice("unix:".length)}` : "";
  const files = `${queue},${queue}.lock${socket}`;
  return [
    `--allow-net=${remote.replace(/^t(cp|ls):\/\//, "")}`,
    `--allow-read=${files}`,
    `--allow-write=${files}`,
    `--allow-ffi=${LIBC}`,
  ];
}

/** The permissions that the help of `relay` names; `listen` as it is granted. */
export function relayPermissions(listen: string, remote: string, queue: string): string[] {
  const socket = listen.startsWith("unix:") ? `,${listen.slice("unix:".length)}` : "";
  return sendPermissions(remote, queue).map((flag) => {
    if (flag.startsWith("--allow-net=")) return `${flag},${listen.replace("tcp://", "")}`;
    return flag.startsWith("--allow-ffi=") ? flag : flag + socket;
  });
}

/** The permissions of a command that works on a queue and does not deliver. */
export function queuePermissions(queue: string): string[] {
  return sendPermissions("", queue).filter((flag) => /^--allow-(read|write)=/.test(flag));
}

/** What a command made of its arguments. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/**
 * Runs a command in this process.
 *
 * @param input What it reads from standard input.
 * @param isTerminal Whether it is told that people sit at all three streams.
 */
export async function runHere(
  args: readonly string[],
  input: string | Uint8Array = "",
  isTerminal = false,
): Promise<Outcome> {
  let given = typeof input === "string" ? bytes(input) : input;
  const stdin = {
    read(buffer: Uint8Array): Promise<number | null> {
      const part = given.subarray(0, buffer.length);
      given = given.subarray(part.length);
      buffer.set(part);
      return Promise.resolve(part.length === 0 ? null : part.length);
    },
    isTerminal: () => isTerminal,
  };
  const [stdout, stderr] = [new Heard(isTerminal), new Heard(isTerminal)];
  const code = await main(args, { stdin, stdout, stderr });
  return { code, out: stdout.text, err: stderr.text };
}

/** Runs a command as a process, to its end. */
export async function runWith(
  permissions: readonly string[],
  args: readonly string[],
  input: string | Uint8Array = "",
): Promise<Outcome> {
  await using command = new Sendq(permissions, args);
  const code = await command.runWith(input);
  return { code, out: command.stdout, err: command.stderr };
}

/** What is printed, kept. */
class Heard {
  readonly isTerminal: () => boolean;
  readonly #parts: Uint8Array[] = [];

  constructor(isTerminal: boolean) {
    this.isTerminal = () => isTerminal;
  }

  get text(): string {
    return new TextDecoder().decode(new Uint8Array(this.#parts.flatMap((part) => [...part])));
  }

  write(part: Uint8Array): Promise<number> {
    return Promise.resolve(this.writeSync(part));
  }

  writeSync(part: Uint8Array): number {
    this.#parts.push(part.slice());
    return part.length;
  }
}

/** A command that runs as a process. */
export class Sendq extends RunningProgram {
  /**
   * @param permissions Deno's flags.
   * @param args The command's own arguments.
   * @param env Added to the environment.
   */
  constructor(
    permissions: readonly string[],
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ) {
    super(
      new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", ...permissions, MAIN, ...args],
        env,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn(),
    );
  }

  /** `send` with the documented permissions. */
  static send(remote: string, queue: string, ...args: string[]): Sendq {
    const command = ["send", remote, "--queue", queue, ...args];
    return new Sendq(sendPermissions(remote, queue), command);
  }

  /** `relay` with the documented permissions. */
  static relay(listen: string, remote: string, queue: string, ...args: string[]): Sendq {
    const command = ["relay", "--listen", listen, "--to", remote, "--queue", queue, ...args];
    return new Sendq(relayPermissions(listen, remote, queue), command);
  }

  /** A command that works on a queue, with the documented permissions. */
  static onQueue(command: string, queue: string, ...args: string[]): Sendq {
    const permissions = queuePermissions(queue)
      .filter((flag) => command !== "status" || flag.startsWith("--allow-read="));
    return new Sendq(permissions, [command, "--queue", queue, ...args]);
  }
}

/** The command in a process that may not have more files open than that. */
export function withFewFiles(
  files: number,
  permissions: readonly string[],
  args: readonly string[],
): RunningProgram {
  const command = [Deno.execPath(), "run", "--quiet", ...permissions, MAIN, ...args];
  return new RunningProgram(
    new Deno.Command("sh", {
      args: ["-c", `ulimit -n ${files}; exec "$@"`, "sh", ...command],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
}

/** The packets in a queue's file. */
export async function packetsIn(queue: string): Promise<number> {
  await using opened = await OutboundQueue.open(queue);
  return opened.stats().packets;
}

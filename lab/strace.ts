/**
 * Runs a program under strace(1) and reads the trace.
 *
 * @module
 */

/** One system call. Times are seconds since 1970. */
export interface SystemCall {
  readonly name: string;
  /** The arguments as strace prints them, strings in hexadecimal escapes. */
  readonly args: string;
  readonly result: number;
  readonly startSeconds: number;
  readonly endSeconds: number;
}

/** Calls that change files, make them durable, or read a connection's counters. */
const CALLS = [
  ...["openat", "write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate"],
  ...["copy_file_range", "mmap", "fsync", "fdatasync", "sync_file_range", "unlink", "unlinkat"],
  ...["rename", "renameat", "renameat2", "getsockopt"],
];
/** No string is cut: larger than any write of the queue. */
const MAX_STRING_BYTES = 1 << 20;
const LINE = /^(\d+\.\d+) (\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)[^<]*<?.*?(?:<(\d+\.\d+)>)?$/;

/** Why strace cannot be used here, if it cannot. */
export async function straceMissing(): Promise<string | undefined> {
  try {
    const { success } = await new Deno.Command("strace", {
      args: ["-e", "trace=none", "true"],
      ...{ stdout: "null", stderr: "null" },
    }).output();
    return success ? undefined : "strace may not trace here";
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return "strace is not installed";
  }
}

/**
 * Runs a program to its end.
 *
 * @param command The program and its arguments.
 * @param directory Where the trace may lie.
 * @returns Its calls from all threads, in the order in which they took effect.
 * @throws {Error} The program failed.
 */
export async function trace(
  command: readonly string[],
  directory: string,
): Promise<SystemCall[]> {
  const { success, stderr } = await new Deno.Command("strace", {
    args: [
      // One file a thread: no call is printed in two halves.
      ...["-ff", "-o", `${directory}/trace`, "-ttt", "-T", "-y", "-xx"],
      ...["-s", String(MAX_STRING_BYTES), "-e", `trace=${CALLS.join(",")}`],
      ...command,
    ],
    ...{ stdout: "null", stderr: "piped" },
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const calls: SystemCall[] = [];
  for (const { name } of Deno.readDirSync(directory)) {
    if (!name.startsWith("trace.")) continue;
    for (const line of Deno.readTextFileSync(`${directory}/${name}`).split("\n")) {
      const call = parseLine(line);
      if (call !== undefined) calls.push(call);
    }
  }
  return calls.sort((a, b) => effectSeconds(a) - effectSeconds(b));
}

/** The bytes of every string among the arguments. */
export function stringsOf(args: string): Uint8Array<ArrayBuffer>[] {
  return [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, text = ""]) => bytesOf(text));
}

/** The file behind the descriptor that is the call's first argument. */
export function pathOf(args: string): string {
  const [, text = ""] = /^\d+<((?:\\x[0-9a-f]{2})*)>/.exec(args) ?? [];
  return new TextDecoder().decode(bytesOf(text));
}

/** The numbers among the arguments, behind the strings. */
export function numbersOf(args: string): number[] {
  const plain = args.replaceAll(/"[^"]*"/g, "").replaceAll(/<[^>]*>/g, "");
  return plain.split(",").map(Number);
}

/** What is said to others takes effect when it begins, what is done to files when it is done. */
function effectSeconds({ name, startSeconds, endSeconds }: SystemCall): number {
  return name === "write" ? startSeconds : endSeconds;
}

function parseLine(line: string): SystemCall | undefined {
  const [, start, name, args, result, duration] = LINE.exec(line) ?? [];
  if (start === undefined || name === undefined || args === undefined) return undefined;
  return {
    name,
    args,
    result: Number(result),
    startSeconds: Number(start),
    endSeconds: Number(start) + Number(duration ?? 0),
  };
}

function bytesOf(escaped: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(escaped.length / 4);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = parseInt(escaped.slice(4 * i + 2, 4 * i + 4), 16);
  }
  return bytes;
}

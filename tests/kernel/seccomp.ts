/**
 * Makes the kernel refuse calls of this thread, as a sandbox or another kernel would:
 * a seccomp filter (seccomp(2), BPF over `struct seccomp_data`). There is no way back.
 */

/** A call that is answered by a number and not carried out. */
export interface Refusal {
  readonly call: keyof typeof NUMBERS;
  /** Arguments by position that it is refused for; all others pass. */
  readonly args?: Readonly<Record<number, number>>;
  /** 0: it says that it worked. */
  readonly errno: number;
}

/** On x86_64 and on aarch64. */
const NUMBERS = {
  getsockopt: [55, 209],
  setsockopt: [54, 208],
  getsockname: [51, 204],
  getpeername: [52, 205],
  connect: [42, 203],
  shutdown: [48, 210],
  ioctl: [16, 29],
  fcntl: [72, 25],
  // aarch64 has ppoll alone, and glibc uses it there.
  poll: [7, 73],
  socket: [41, 198],
  sendto: [44, 206],
  fallocate: [285, 47],
  inotify_init1: [294, 26],
  inotify_add_watch: [254, 27],
  inotify_rm_watch: [255, 28],
} as const;

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const SECCOMP_RET_ERRNO = 0x00050000;
/** BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K. */
const LOAD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
/** Offsets in `struct seccomp_data`. */
const NUMBER_AT = 0;
const ARGS_AT = 16;

/** Each instruction as code, jump if true, jump if false, operand. */
function program(refusals: readonly Refusal[]): (readonly [number, number, number, number])[] {
  const machine = Deno.build.arch === "x86_64" ? 0 : 1;
  const instructions = refusals.flatMap(({ call, args = {}, errno }) => {
    const checks = [
      [NUMBER_AT, NUMBERS[call][machine]] as const,
      ...Object.entries(args).map(([at, value]) => [ARGS_AT + 8 * Number(at), value] as const),
    ];
    return [
      ...checks.flatMap(([offset, value], index) => [
        [LOAD, 0, 0, offset] as const,
        // On to the next check; or behind this refusal's return.
        [JUMP_IF_EQUAL, 0, 2 * (checks.length - index - 1) + 1, value] as const,
      ]),
      [RETURN, 0, 0, SECCOMP_RET_ERRNO | errno] as const,
    ];
  });
  return [...instructions, [RETURN, 0, 0, SECCOMP_RET_ALLOW]];
}

/** @throws {Error} The kernel does not take the filter. */
export function refuseCalls(libcPath: string, refusals: readonly Refusal[]): void {
  const library = Deno.dlopen(libcPath, {
    prctl: { parameters: ["i32", "u64", "buffer", "u64", "u64"], result: "i32" },
  });
  const instructions = program(refusals);
  const code = new DataView(new ArrayBuffer(8 * instructions.length));
  for (const [index, [op, ifTrue, ifFalse, operand]] of instructions.entries()) {
    code.setUint16(8 * index, op, true);
    code.setUint8(8 * index + 2, ifTrue);
    code.setUint8(8 * index + 3, ifFalse);
    code.setUint32(8 * index + 4, operand, true);
  }
  const filter = new BigUint64Array(2); // struct sock_fprog: a count, padding, a pointer
  const pointer = Deno.UnsafePointer.of(new Uint8Array(code.buffer));
  filter[0] = BigInt(instructions.length);
  filter[1] = Deno.UnsafePointer.value(pointer);
  const { prctl } = library.symbols;
  if (
    prctl(PR_SET_NO_NEW_PRIVS, 1n, null, 0n, 0n) !== 0 ||
    prctl(PR_SET_SECCOMP, BigInt(SECCOMP_MODE_FILTER), filter, 0n, 0n) !== 0
  ) {
    throw new Error("no seccomp filters here");
  }
}

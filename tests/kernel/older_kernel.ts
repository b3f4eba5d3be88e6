/**
 * A program on this kernel that sees no more of TCP_INFO than Linux 4.10 to 5.3 had:
 * strace shortens the length that each getsockopt asks for. All else is this kernel's.
 *
 * @module
 */

import { noChildren } from "./helpers.ts";

/** `struct tcp_info` up to `tcpi_reord_seen`, as of Linux 4.19 to 5.3: no send window. */
const BYTES = 224;
const LITTLE_ENDIAN = [BYTES, 0, 0, 0].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * What stands in front of a command to run it so; a signal reaches the command and not
 * strace, which ends with it. Other options are shorter anyway, and
 * the kernel writes no more than they have.
 */
export const OLDER_KERNEL: readonly string[] = [
  ...[
    "strace",
    "--daemonize",
    "--follow-forks",
    "--seccomp-bpf",
    "--quiet=all",
    "--output=/dev/null",
  ],
  ...["--trace=getsockopt", `--inject=getsockopt:poke_enter=@arg5=${LITTLE_ENDIAN}`],
];

/** Why it cannot be done here; `undefined`: it can. */
export async function olderKernelObstacle(): Promise<string | undefined> {
  const children = noChildren();
  if (children !== undefined) return children;
  const [strace = "", ...args] = OLDER_KERNEL;
  try {
    const { success, stderr } = await new Deno.Command(strace, { args: [...args, "true"] })
      .output();
    if (success) return undefined;
    return `strace cannot: ${new TextDecoder().decode(stderr).trim().split("\n")[0]}`;
  } catch {
    return "needs the program strace";
  }
}

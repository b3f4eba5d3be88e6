/**
 * What the kernel says of a process; see proc(5).
 *
 * @module
 */

/** Resident memory and open descriptors; undefined once the process is gone. */
export async function usageOf(
  pid: number,
): Promise<{ readonly rssBytes: number; readonly descriptors: number } | undefined> {
  try {
    const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(await Deno.readTextFile(`/proc/${pid}/status`)) ??
      [];
    const descriptors = [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
    // A zombie has no memory any more.
    return kib === undefined ? undefined : { rssBytes: Number(kib) * 1024, descriptors };
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/**
 * Bytes that wait in the receive buffers of a server's connections; 0 once the process is gone.
 *
 * @param pid A process in the server's network namespace.
 * @param port The server's.
 */
export function unreadBytes(pid: number, port: number): number {
  let table: string;
  try {
    table = Deno.readTextFileSync(`/proc/${pid}/net/tcp`);
  } catch (error) {
    if (isGone(error)) return 0;
    throw error;
  }
  let bytes = 0;
  for (const line of table.split("\n").slice(1)) {
    // sl local_address rem_address st tx_queue:rx_queue …
    const [, local = "", , state, queues = ""] = line.trim().split(/\s+/);
    const listens = state === "0A";
    if (listens || parseInt(local.split(":")[1] ?? "", 16) !== port) continue;
    bytes += parseInt(queues.split(":")[1] ?? "0", 16);
  }
  return bytes;
}

/** Also of a process that ends just now: what it had is no longer its user's, or no longer there. */
function isGone(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied ||
    // ESRCH and EINVAL, for which Deno has no classes.
    (error instanceof Error && /os error (3|22)\b/.test(error.message));
}

/**
 * What a connection has to be before the first packet goes out on it.
 *
 * @module
 */

import { WireError } from "../base/errors.ts";
import { type SocketSample, TcpState } from "../base/ports.ts";

/**
 * What the peer's program has read is to confirm: nothing else may in its place.
 *
 * @throws {WireError} The wire cannot tell.
 */
export function assertTellsReads({ readBytes }: SocketSample): void {
  if (readBytes !== undefined) return;
  throw new WireError(
    "READS_UNKNOWN",
    `nothing on this connection tells what the server's program has read (READS_UNKNOWN): ` +
      `confirm "reader" needs a dialer whose connections do, as tls:// and unix: have one`,
  );
}

/**
 * What is acknowledged from now on has to be ours. A connection that is dead already carries
 * nothing.
 *
 * @throws {WireError} Bytes are under way that are no packet's.
 */
export function assertQuiet({ state, sendQueueBytes }: SocketSample): void {
  if (sendQueueBytes === 0 || state === TcpState.CLOSE) return;
  throw new WireError(
    "EBUSY",
    `${sendQueueBytes} bytes that are no packet's are not acknowledged yet: a dialer that writes ` +
      `something has to wait until it is, or to leave it to session.open`,
  );
}

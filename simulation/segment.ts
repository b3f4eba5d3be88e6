/**
 * What the two ends of a connection, their hosts and their programs say to each other.
 *
 * @module
 */

/** What travels between two ends. Sequence numbers count from the first data byte. */
export interface Segment {
  readonly connection: number;
  readonly fromClient: boolean;
  readonly kind: "syn" | "syn-ack" | "rst" | "data";
  readonly seq: number;
  readonly bytes: Uint8Array | undefined;
  readonly fin: boolean;
  readonly ack: number;
  readonly window: number;
  /**
   * How many bytes the program behind this end had taken when it was sent: what no TCP
   * says, and an answered KeyUpdate of TLS does.
   */
  readonly taken?: number;
}

/** How an end is tuned. */
export interface TcpOptions {
  readonly mssBytes: number;
  readonly sendBufferBytes: number;
  readonly receiveBufferBytes: number;
  readonly rtoMaxMs: number;
  /** TCP_USER_TIMEOUT; 0 is off. */
  readonly userTimeoutMs: number;
  /** Whether an end tells the other what its program has taken. */
  readonly tellsReads: boolean;
  readonly keepAlive:
    | { readonly idleMs: number; readonly intervalMs: number; readonly count: number }
    | undefined;
}

/** What an end calls when something changed that its program may wait for. */
export interface TcpEvents {
  /** Something can be read, or never again. */
  readable(): void;
  /** Something can be written, or never again. */
  writable(): void;
  /** Bytes were acknowledged. */
  acked(): void;
  /** A segment of the peer arrived, before its FIN. */
  heard?(): void;
  /** State CLOSE, by an error or by an exchange of FINs. */
  dead(): void;
}

/** Hands a segment to the network; false when it could not leave this host. */
export type Transmit = (segment: Segment) => boolean;

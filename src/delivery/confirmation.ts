/**
 * What confirms the packets of one connection: the hold (`Hold`), answers of the server's program
 * (`Answers`), or how far that has read (`Reads`). Always one of them, and never a mixture: where
 * answers confirm, a hold that has passed says nothing.
 */
export interface Confirmation {
  /** Every packet of this connection up to this one is confirmed; 0: none is. */
  readonly confirmedThroughId: number;
  /** How many packets of this connection are confirmed. */
  readonly confirmedPackets: number;
  /** How many the peer's kernel has acknowledged that are not confirmed. */
  readonly heldPackets: number;
  /** How many an orderly end of the connection would wrongly call delivered. */
  readonly openPackets: number;
  /** In how many milliseconds to look again: there may be news that nobody is told of. */
  dueInMs(nowMs: number): number;
}

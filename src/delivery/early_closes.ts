import type { Verdict } from "./liveness.ts";

/** So many connections in a row that the server ended early are a pattern, and named. */
const EARLY_CLOSES = 3;

/** Connections in a row that the server ended before everything was confirmed. */
export class EarlyCloses {
  #times = 0;

  /** What they come to; undefined: they are too few. */
  get verdict(): Verdict | undefined {
    return this.#times < EARLY_CLOSES ? undefined : { kind: "closes-early", times: this.#times };
  }

  /**
   * A connection has ended: by the server's FIN, or by its reset where nothing was confirmed,
   * it is one of them. An end that this side has decided says nothing either way.
   *
   * @param verdict How.
   * @param peerClosed The server's FIN was here.
   * @param confirmedAny Whether anything of it was confirmed.
   * @param again How many packets were not.
   */
  ended({ kind }: Verdict, peerClosed: boolean, confirmedAny: boolean, again: number): void {
    if (kind === "ended-here") return;
    const early = again > 0 && (peerClosed || (kind === "reset" && !confirmedAny));
    this.#times = early ? this.#times + 1 : 0;
  }
}

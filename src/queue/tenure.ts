import type { FencedError } from "../base/errors.ts";
import type { SpareSpace } from "./guarded_store.ts";

/**
 * The right to send, held until it is released or lost.
 *
 * @category Tools
 */
export interface Tenure {
  /** Grows with each tenure of a queue, where somebody counts; else 0. */
  readonly epoch: number;
  /** Disk space that is kept for removals; left out where the place needs none. */
  readonly spare?: SpareSpace & {
    /** How much there is. */
    readonly reserveBytes: number;
    /** How much there should be. */
    readonly wantedReserveBytes: number;
  };
  /**
   * For how long nobody else can have begun, in milliseconds from now. 0 or less: somebody
   * may have; nothing may be sent, until it is more again. `Infinity`: until it is released.
   */
  validForMs(): number;
  /**
   * Calls back each time when {@linkcode Tenure.validForMs} has come down to 0, and at the
   * latest when it is next asked. Returns the unsubscription.
   */
  subscribeLapsed(onLapsed: () => void): () => void;
  /**
   * Calls back each time when it is valid again behind that. Returns the unsubscription; left
   * out where it never lapses.
   */
  subscribeRenewed?(onRenewed: () => void): () => void;
  /**
   * Calls back once, with the error, when somebody else has taken over. Returns the
   * unsubscription.
   */
  subscribeLost(onLost: (error: FencedError) => void): () => void;
  /**
   * Lets others read a text about this sender.
   *
   * @param text Takes the place of the last one; a few KiB at most.
   */
  publish(text: string): void;
  /**
   * What has become of what others recognise it by, in words, so that another sender may
   * have begun; `undefined`: nothing.
   */
  misplaced(): string | undefined;
  /** Gives it back. Idempotent. */
  release(): void | Promise<void>;
}

/** How much of the disk a tenure keeps free for removals, for people; `undefined`: none. */
export function describeReserve(
  { spare }: Pick<Tenure, "spare">,
): { readonly level: "warn" | "debug"; readonly words: string } | undefined {
  const { reserveBytes = 0, wantedReserveBytes = 0 } = spare ?? {};
  if (wantedReserveBytes === 0) return undefined;
  const kept = `${reserveBytes >> 10} KiB of the disk are kept free for removals`;
  if (reserveBytes >= wantedReserveBytes) return { level: "debug", words: kept };
  const words = `the disk is full: ${kept}, and ${wantedReserveBytes >> 10} KiB should be`;
  return { level: "warn", words };
}

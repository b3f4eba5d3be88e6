import type { DeadPackets } from "../queue/options.ts";
import type { DroppedPackets } from "../queue/store/types.ts";

/**
 * `"3 packets expired and became dead letters (1200 bytes)"`; of damaged ones with
 * their ids, where those are all that there are between the first and the last.
 */
export function wordsForDead({ packets, bytes, reason, ids }: DeadPackets): string {
  const { firstId, lastId } = ids;
  const which = packets === 1
    ? `packet ${firstId}`
    : reason === "damaged" && packets === lastId + 1 - firstId
    ? `packets ${firstId} to ${lastId}`
    : `${packets} packets`;
  const [was, were] = reason === "gave-up"
    ? ["was given up", "were given up"]
    : reason === "damaged"
    ? ["is damaged in the file", "are damaged in the file"]
    : reason === "refused"
    ? ["was refused by the server", "were refused by the server"]
    : ["expired", "expired"];
  const what = packets === 1 ? was : were;
  const became = packets === 1 ? "became a dead letter" : "became dead letters";
  return `${which} ${what} and ${became} (${bytes} bytes)`;
}

/** `"there are too many packets: dropped the 3 oldest (1200 bytes)"` */
export function wordsForDropped({ packets, bytes, throughId }: DroppedPackets): string {
  const what = throughId === 0 ? "dead letters" : "packets";
  return `there are too many ${what}: dropped the ${packets} oldest (${bytes} bytes)`;
}

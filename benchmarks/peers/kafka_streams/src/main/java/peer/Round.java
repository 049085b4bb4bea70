package peer;

import java.io.IOException;
import java.math.BigInteger;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;

/** The contract {@code round}, of which the yardstick job moves bets and wins. */
final class Round {
    String tenant;
    String playerId;
    String roundId;
    long revision;
    String gameId;
    String currency;
    long firstEventAt;
    long lastEventAt;
    long lastReceivedAt;
    int betCount;
    int winCount;
    BigInteger betAmount = BigInteger.ZERO;
    BigInteger betBonusAmount = BigInteger.ZERO;
    BigInteger winAmount = BigInteger.ZERO;
    BigInteger winBonusAmount = BigInteger.ZERO;
    BigInteger largestWinAmount = BigInteger.ZERO;

    static Round openedBy(Transaction event) {
        var it = new Round();
        it.tenant = event.tenant;
        it.playerId = event.playerId;
        it.roundId = event.roundId;
        it.gameId = event.gameId;
        it.currency = event.currency;
        it.firstEventAt = event.occurredAt;
        it.lastEventAt = event.occurredAt;
        it.lastReceivedAt = event.receivedAt;
        return it;
    }

    /** Whether the event may be folded in. */
    boolean takes(Transaction event) {
        return currency.equals(event.currency)
            && betAmount.add(winAmount).add(event.amount).compareTo(Transaction.LIMIT) < 0;
    }

    void fold(Transaction event) {
        revision++;
        if (event.occurredAt < firstEventAt
            || (event.occurredAt == firstEventAt && event.gameId.compareTo(gameId) < 0)) {
            firstEventAt = event.occurredAt;
            gameId = event.gameId;
        }
        lastEventAt = Math.max(lastEventAt, event.occurredAt);
        lastReceivedAt = Math.max(lastReceivedAt, event.receivedAt);
        if (event.win) {
            winCount++;
            winAmount = winAmount.add(event.amount);
            largestWinAmount = largestWinAmount.max(event.amount);
            if (event.bonus) {
                winBonusAmount = winBonusAmount.add(event.amount);
            }
        } else {
            betCount++;
            betAmount = betAmount.add(event.amount);
            if (event.bonus) {
                betBonusAmount = betBonusAmount.add(event.amount);
            }
        }
    }

    void write(BinaryEncoder out) throws IOException {
        out.writeString(tenant);
        out.writeString(playerId);
        out.writeString(roundId);
        out.writeLong(0);
        out.writeLong(revision);
        out.writeEnum(0);
        out.writeString("gameround");
        out.writeString(gameId);
        out.writeString(currency);
        out.writeBoolean(true);
        out.writeLong(firstEventAt);
        out.writeLong(lastEventAt);
        out.writeLong(lastReceivedAt);
        out.writeInt(betCount);
        out.writeInt(winCount);
        out.writeInt(0);
        out.writeInt(0);
        out.writeInt(0);
        out.writeBytes(betAmount.toByteArray());
        out.writeBytes(betBonusAmount.toByteArray());
        out.writeBytes(winAmount.toByteArray());
        out.writeBytes(winBonusAmount.toByteArray());
        for (int i = 0; i < 4; i++) {
            out.writeBytes(new byte[1]);
        }
        out.writeBytes(largestWinAmount.toByteArray());
        for (int i = 0; i < 4; i++) {
            out.writeIndex(0);
        }
        out.writeArrayStart();
        out.writeArrayEnd();
        out.writeIndex(0);
        out.writeIndex(0);
        out.writeArrayStart();
        out.writeArrayEnd();
        out.writeArrayStart();
        out.writeArrayEnd();
    }

    static Round read(BinaryDecoder in) throws IOException {
        var it = new Round();
        it.tenant = in.readString();
        it.playerId = in.readString();
        it.roundId = in.readString();
        in.readLong();
        it.revision = in.readLong();
        in.readEnum();
        in.skipString();
        it.gameId = in.readString();
        it.currency = in.readString();
        in.readBoolean();
        it.firstEventAt = in.readLong();
        it.lastEventAt = in.readLong();
        it.lastReceivedAt = in.readLong();
        it.betCount = in.readInt();
        it.winCount = in.readInt();
        in.readInt();
        in.readInt();
        in.readInt();
        it.betAmount = Avro.units(in);
        it.betBonusAmount = Avro.units(in);
        it.winAmount = Avro.units(in);
        it.winBonusAmount = Avro.units(in);
        for (int i = 0; i < 4; i++) {
            in.skipBytes();
        }
        it.largestWinAmount = Avro.units(in);
        return it;
    }
}

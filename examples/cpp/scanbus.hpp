// A publisher of scans in C++, written from docs/protocol.md. One thread, one connection.
//
//   scanbus::Scan scan("redis://127.0.0.1:6379", names, lanes, 64 << 20);
//   scan.send("camera", {bytes}, {time});   // one block per channel of the lane
//   scan.finish("SUCCESS");
//
// It keeps what it sent until the writer has it in files, and sends it again if Redis lost
// it. C++17; hiredis, msgpack-c and xxHash. Compile with -ffp-contract=off: see send().
#pragma once

#include <msgpack.hpp>

#include <deque>
#include <iostream>
#include <map>
#include <random>
#include <thread>

#include "connection.hpp"
#include "entries.hpp"

namespace scanbus {

class Scan {
public:
    Scan(const std::string &url, Names names, std::vector<LaneOf> lanes,
         unsigned long long quota, const std::string &metadata = "{}")
        : bus_(url), names_(std::move(names)), described_(std::move(lanes)), quota_(quota) {
        std::random_device device;
        for (int index = 0; index < 16; ++index)
            session_ += static_cast<char>(device() & 0xff);
        if (names_.uid.empty()) names_.uid = hexadecimal(session_);
        if (names_.session.empty()) names_.session = today();
        for (const auto &lane : described_) lanes_[lane.name].storage = lane.storage;
        open(metadata);
    }

    const Names &names() const { return names_; }

    // Send the next points of a lane: one block per channel, one time per point (seconds
    // since 1970). `codec` is that of all blocks; `gaps` as in the header.
    void send(const std::string &lane, const Words &blocks, const std::vector<double> &times,
              const std::string &codec = "none") {
        auto &queue = lanes_.at(lane);
        std::string payload;
        for (const auto &block : blocks) payload += block;
        std::string time_block(reinterpret_cast<const char *>(times.data()), 8 * times.size());
        const bool is_even = evenly_spaced(times) == time_block;
        msgpack::sbuffer header;
        msgpack::packer<msgpack::sbuffer> pack(header);
        pack.pack_map(2 + (codec != "none") + (blocks.size() > 1) + 1);
        begin(pack, payload);
        if (codec != "none") pack.pack(std::string("codecs")), pack.pack(codec);
        if (blocks.size() > 1) {
            pack.pack(std::string("sizes"));
            pack.pack_array(static_cast<uint32_t>(blocks.size()));
            for (const auto &block : blocks) pack.pack_uint64(block.size());
        }
        if (is_even) {
            pack.pack(std::string("times"));
            pack.pack(std::vector<double>{times.front(), times.back()});
        } else {
            pack.pack(std::string("times_checksum"));
            pack.pack_uint64(checksum(time_block));
            payload += time_block;
        }
        push(queue, times.size(), {header.data(), header.size()}, std::move(payload));
        flush(lane);
    }

    // Points that will never come.
    void skip(const std::string &lane, unsigned long long count) {
        msgpack::sbuffer header;
        msgpack::packer<msgpack::sbuffer> pack(header);
        pack.pack_map(3);
        begin(pack, "");
        pack.pack(std::string("gap")), pack.pack(true);
        push(lanes_.at(lane), count, {header.data(), header.size()}, "");
        flush(lane);
    }

    void update(const std::string &metadata) {
        tell("updated", ",\"metadata\":" + metadata);
    }

    // Seal all lanes, end the scan, and return the final verdict in one word.
    std::string finish(const std::string &reason, double timeout_s = 60) {
        for (auto &[name, queue] : lanes_) {
            msgpack::sbuffer header;
            msgpack::packer<msgpack::sbuffer> pack(header);
            pack.pack_map(3);
            begin(pack, "");
            pack.pack(std::string("length")), pack.pack_uint64(queue.next);
            queue.kept.push_back({queue.next, queue.next + 1, seal_id,
                                  {header.data(), header.size()}, ""});
            flush(name);
        }
        tell("ended", ",\"end_reason\":" + json_text(reason));
        const auto word = wait_for_verdict(timeout_s);
        if (!word.empty()) ask({"DEL", heartbeat_key()});
        return word;
    }

private:
    struct Entry {
        unsigned long long first, stop;
        std::string id, header, payload;
        size_t bytes() const { return header.size() + payload.size() + 64; }
    };
    struct Queue {
        std::string storage;
        unsigned long long next = 0;
        std::deque<Entry> kept;  // until the writer's cursor has passed them
        size_t n_sent = 0;       // of those kept
    };
    using Clock = std::chrono::steady_clock;

    static constexpr const char *seal_id = "18446744073709551615-18446744073709551615";
    static constexpr double deadline_s = 60;

    void begin(msgpack::packer<msgpack::sbuffer> &pack, const std::string &blocks) const {
        pack.pack(std::string("session"));
        pack.pack_bin(static_cast<uint32_t>(session_.size()));
        pack.pack_bin_body(session_.data(), static_cast<uint32_t>(session_.size()));
        pack.pack(std::string("checksum"));
        pack.pack_uint64(checksum(blocks));
    }

    void push(Queue &queue, unsigned long long count, std::string header, std::string payload) {
        const auto first = queue.next;
        queue.next += count;
        const auto id = std::to_string(first) + "-" + std::to_string(count);
        queue.kept.push_back({first, queue.next, id, std::move(header), std::move(payload)});
    }

    // ------------------------------------------------------------------ keys

    std::string key(const char *what) const {
        return "scanbus:{" + names_.uid + "}:" + what;
    }
    std::string events_key() const { return key("events"); }
    std::string heartbeat_key() const { return key("publisher"); }
    std::string lane_key(const std::string &lane) const {
        return "scanbus:{" + names_.uid + ":" + lane + "}:lane";
    }
    std::string cursors_key(const std::string &lane) const {
        return "scanbus:{" + names_.uid + ":" + lane + "}:cursors";
    }

    // ------------------------------------------------------------------ asking Redis

    // Repeat a command while Redis refuses it; after a lost connection, compare first.
    Reply ask(const Words &words) {
        const auto began = Clock::now();
        for (;;) {
            try {
                const Reply reply = bus_.command(words);
                if (!reply.is_error()) return reply;
                if (!reply.is_refused()) throw std::runtime_error("Redis: " + reply.text);
                check(began, reply.text);
            } catch (const Lost &) {
                reconnect(began);
            }
        }
    }

    void check(Clock::time_point began, const std::string &reason) {
        if (Clock::now() - began > std::chrono::duration<double>(deadline_s))
            throw std::runtime_error("gave up after 60 s: " + reason);
        std::cerr << "waiting: " << reason << "\n";
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }

    template <typename Work>
    void repeat(Work work) {
        const auto began = Clock::now();
        for (;;) {
            try {
                return work();
            } catch (const Lost &) {
                reconnect(began);
            }
        }
    }

    void reconnect(Clock::time_point began) {
        for (;;) {
            try {
                bus_.open();
                if (is_open_) restore();
                return;
            } catch (const Lost &lost) {
                check(began, lost.what());
            }
        }
    }

    // As `ask`, within `restore`: a lost connection is left to who called that.
    Reply ask_once(const Words &words) {
        const auto began = Clock::now();
        for (;;) {
            const Reply reply = bus_.command(words);
            if (!reply.is_error()) return reply;
            if (!reply.is_refused()) throw std::runtime_error("Redis: " + reply.text);
            check(began, reply.text);
        }
    }

    // ------------------------------------------------------------------ opening

    void open(const std::string &metadata) {
        const Reply memory = ask({"CONFIG", "GET", "maxmemory"});
        const double most = memory.parts.size() > 1 ? std::stod(memory.parts[1].text) : 0;
        // 60 % of maxmemory, or of 4 GiB where Redis has none.
        budget_ = static_cast<unsigned long long>(0.6 * (most > 0 ? most : 4294967296.0));
        if (quota_ > budget_)
            throw std::runtime_error("a quota of " + std::to_string(quota_) +
                                     " bytes does not fit into the bus, whose budget is " +
                                     std::to_string(budget_) + ": give Redis more memory");
        if (names_.number == 0) draw_number();
        beat();
        announce();
        const auto began = Clock::now();
        while (!ask(reservation("0")).is_nil()) check(began, "no room for the quota");
        for (const auto &lane : described_) repeat([&] { make_lane(lane.name); });
        std::string lanes;
        for (const auto &lane : described_) lanes += (lanes.empty() ? "" : ",") + lane.json();
        is_open_ = true;
        tell("prepared", ",\"scan\":" + names_.json() + ",\"lanes\":[" + lanes +
                             "],\"quota_bytes\":" + std::to_string(quota_) +
                             ",\"title\":" + json_text(names_.title) + ",\"metadata\":" + metadata);
        tell("started", "");
    }

    // Draw a number, unless somebody claims it at this instant; ask a writer what the disk
    // has if Redis does not know.
    void draw_number() {
        const auto counter = "scanbus:number:" + names_.folder();
        if (ask({"EXISTS", counter}).integer == 0) {
            const auto reply = "scanbus:reply:" + names_.uid;
            ask({"XADD", "scanbus:requests", "*", "dataset", names_.folder(), "number", "0",
                 "reply", reply});
            ask({"BLPOP", reply, "5"});
        }
        do {
            names_.number = ask({"INCR", counter}).integer;
            claim_ = "scanbus:claim:" + names_.folder() + ":" + std::to_string(names_.number);
        } while (ask({"SET", claim_, names_.uid, "NX", "PX", "30000"}).is_nil());
    }

    void announce() {
        const auto document = "{\"protocol\":1,\"type\":\"announced\",\"time\":" +
                              number(now()) + ",\"scan\":" + names_.json() + "}";
        announcement_ =
            ask({"EVAL", event_script, "1", "scanbus:scans", document}).text;
        if (!claim_.empty()) ask({"DEL", claim_});
    }

    Words reservation(const char *force) const {
        return {"EVAL", reserve_script, "1", "scanbus:reserved", names_.uid,
                std::to_string(quota_), std::to_string(budget_), force};
    }

    void make_lane(const std::string &lane) {
        const auto stream = lane_key(lane);
        const Reply made =
            bus_.command({"XGROUP", "CREATE", stream, "scanbus-maker", "0", "MKSTREAM"});
        if (made.is_error() && !made.has("BUSYGROUP"))
            throw std::runtime_error("Redis: " + made.text);
        bus_.command({"XGROUP", "DESTROY", stream, "scanbus-maker"});
    }

    void tell(const std::string &type, const std::string &fields) {
        events_.push_back("{\"protocol\":1,\"type\":" + json_text(type) +
                          ",\"time\":" + number(now()) + fields + "}");
        ask({"EVAL", event_script, "1", events_key(), events_.back()});
    }

    // ------------------------------------------------------------------ sending

    // Send what a lane keeps, after waiting for room; then look after the scan.
    void flush(const std::string &lane) {
        auto &queue = lanes_.at(lane);
        const auto began = Clock::now();
        while (kept_bytes() > quota_) {
            look(true);
            if (kept_bytes() > quota_) check(began, "the writer has not written enough");
        }
        // After a loss, `restore` has sent all of them.
        while (queue.n_sent < queue.kept.size()) {
            const Entry entry = queue.kept[queue.n_sent];
            if (put(lane, entry)) ++queue.n_sent;
        }
        look(false);
    }

    size_t kept_bytes() const {
        size_t bytes = 0;
        for (const auto &[name, queue] : lanes_)
            for (const auto &entry : queue.kept) bytes += entry.bytes();
        return bytes;
    }

    // Append one entry; false if the connection or the lane was lost, and all restored.
    bool put(const std::string &lane, const Entry &entry) {
        const auto began = Clock::now();
        try {
            if (put_once(lane, entry)) return true;
            restore();
        } catch (const Lost &) {
            reconnect(began);
        }
        return false;
    }

    // Append one entry; false if the lane is lost.
    bool put_once(const std::string &lane, const Entry &entry) {
        Words words{"XADD", lane_key(lane), "NOMKSTREAM", entry.id, "h", entry.header};
        if (!entry.payload.empty()) words.insert(words.end(), {"p", entry.payload});
        const auto began = Clock::now();
        for (;;) {
            const Reply reply = bus_.command(words);
            if (reply.is_nil()) return false;
            if (!reply.is_error()) return true;
            if (reply.has("equal or smaller") || reply.has("exhausted")) {
                if (is_stored(lane, entry)) return true;
                throw std::runtime_error("another publisher writes to the lane " + lane);
            }
            if (!reply.is_refused()) throw std::runtime_error("Redis: " + reply.text);
            check(began, reply.text);
        }
    }

    bool is_stored(const std::string &lane, const Entry &entry) {
        const Reply found = bus_.command({"XRANGE", lane_key(lane), entry.id, entry.id});
        return found.parts.size() == 1 && header_of(found.parts[0]) == entry.header;
    }

    static std::string header_of(const Reply &entry) {
        const auto &fields = entry.parts.at(1).parts;
        for (size_t index = 0; index + 1 < fields.size(); index += 2)
            if (fields[index].text == "h") return fields[index + 1].text;
        return "";
    }

    // ------------------------------------------------------------------ looking after it

    void beat() {
        ask({"EVAL", heartbeat_script, "1", heartbeat_key(), "scanbus-cpp", "10000"});
    }

    // Every 2 s, or now: heartbeat, cursors, and whether a key has vanished.
    void look(bool is_due) {
        const auto moment = Clock::now();
        if (!is_due && moment < next_look_) return;
        next_look_ = moment + std::chrono::seconds(2);
        beat();
        const auto n_events = static_cast<long long>(events_.size());
        bool is_whole =
            !ask({"XRANGE", "scanbus:scans", announcement_, announcement_}).parts.empty() &&
            ask({"XLEN", events_key()}).integer >= n_events &&
            ask({"HEXISTS", "scanbus:reserved", names_.uid}).integer == 1;
        for (auto &[name, queue] : lanes_) {
            is_whole = is_whole && ask({"TYPE", lane_key(name)}).text == "stream";
            const auto cursor = ask({"HGET", cursors_key(name), "writer"}).text;
            const auto point = std::strtoull(cursor.c_str(), nullptr, 10);
            while (!queue.kept.empty() && queue.n_sent && queue.kept.front().stop <= point &&
                   queue.kept.front().id != seal_id) {
                queue.kept.pop_front();
                --queue.n_sent;
            }
        }
        if (!is_whole && !is_judged_) repeat([&] { restore(); });
    }

    // Compare what Redis has with what was sent, and send what it lacks.
    void restore() {
        ask_once({"EVAL", heartbeat_script, "1", heartbeat_key(), "scanbus-cpp", "10000"});
        ask_once(reservation("1"));
        restore_events();  // Before the announcement: whoever finds the scan knows what it is.
        if (ask_once({"XRANGE", "scanbus:scans", announcement_, announcement_}).parts.empty())
            announcement_ = ask_once({"EVAL", event_script, "1", "scanbus:scans",
                                      "{\"protocol\":1,\"type\":\"announced\",\"time\":" +
                                          number(now()) + ",\"scan\":" + names_.json() + "}"})
                                .text;
        for (auto &[name, queue] : lanes_) restore_lane(name, queue);
    }

    void restore_events() {
        std::map<std::string, int> there;
        for (const auto &event : ask_once({"XRANGE", events_key(), "-", "+"}).parts)
            ++there[event.parts.at(1).parts.at(1).text];
        for (const auto &event : events_)
            if (!there.count(event)) {
                Words words{"EVAL", event_script, "1", events_key()};
                words.insert(words.end(), events_.begin(), events_.end());
                ask_once(words);
                return;
            }
    }

    void restore_lane(const std::string &name, Queue &queue) {
        const auto stream = lane_key(name);
        if (ask_once({"TYPE", stream}).text != "stream") {
            ask_once({"DEL", stream});
            make_lane(name);
        }
        std::string last = "0-0";
        const Reply info = ask_once({"XINFO", "STREAM", stream});
        for (size_t index = 0; index + 1 < info.parts.size(); index += 2)
            if (info.parts[index].text == "last-generated-id") last = info.parts[index + 1].text;
        const Reply found = ask_once({"XRANGE", stream, last, last});
        if (found.parts.size() == 1 && !is_ours(header_of(found.parts[0])))
            throw std::runtime_error("another publisher writes to the lane " + name);
        queue.n_sent = 0;
        const auto dash = last.find('-');
        const auto end = std::stoull(last.substr(0, dash)) + std::stoull(last.substr(dash + 1));
        const bool is_sealed = last == seal_id;
        if (!is_sealed && !queue.kept.empty() && queue.kept.front().first > end)
            stand_in(name, end, queue.kept.front().first);
        for (const auto &entry : queue.kept) {
            if (!is_sealed && (entry.stop > end || entry.id == seal_id))
                restore_entry(name, entry);
            ++queue.n_sent;
        }
    }

    bool is_ours(const std::string &header) const {
        return header.find(session_) != std::string::npos;
    }

    // Points that only the writer's files have.
    void stand_in(const std::string &lane, unsigned long long first, unsigned long long stop) {
        msgpack::sbuffer header;
        msgpack::packer<msgpack::sbuffer> pack(header);
        pack.pack_map(3);
        begin(pack, "");
        pack.pack(std::string("durable")), pack.pack(true);
        const auto id = std::to_string(first) + "-" + std::to_string(stop - first);
        restore_entry(lane, {first, stop, id, {header.data(), header.size()}, ""});
    }

    void restore_entry(const std::string &lane, const Entry &entry) {
        if (!put_once(lane, entry)) throw Lost("a lane vanished");
    }

    // ------------------------------------------------------------------ the end

    std::string wait_for_verdict(double timeout_s) {
        const auto began = Clock::now();
        static const std::regex word("\"verdict\"\\s*:\\s*\"(complete|partial|failed)\"");
        static const std::regex final_one("\"provisional\"\\s*:\\s*false");
        while (Clock::now() - began < std::chrono::duration<double>(timeout_s)) {
            look(true);
            for (const auto &event : ask({"XRANGE", events_key(), "-", "+"}).parts) {
                const auto &text = event.parts.at(1).parts.at(1).text;
                std::smatch found;
                if (text.find("\"judged\"") != std::string::npos &&
                    std::regex_search(text, final_one) && std::regex_search(text, found, word)) {
                    is_judged_ = true;
                    return found[1];
                }
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        return "";
    }

    Connection bus_;
    Names names_;
    std::vector<LaneOf> described_;
    unsigned long long quota_, budget_ = 0;
    std::string session_, claim_, announcement_;
    Words events_;
    std::map<std::string, Queue> lanes_;
    bool is_open_ = false, is_judged_ = false;
    Clock::time_point next_look_{};
};

}  // namespace scanbus

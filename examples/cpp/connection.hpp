// A connection to Redis, and the scripts of docs/protocol.md.
#pragma once

#include <hiredis/hiredis.h>

#include <csignal>
#include <memory>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include "documents.hpp"

namespace scanbus {

struct Reply {
    int type = REDIS_REPLY_NIL;
    long long integer = 0;
    std::string text;
    std::vector<Reply> parts;

    bool is_nil() const { return type == REDIS_REPLY_NIL; }
    bool is_error() const { return type == REDIS_REPLY_ERROR; }
    bool has(const char *word) const { return text.find(word) != std::string::npos; }

    // Nothing was stored, and it may be sent again as it is.
    bool is_refused() const {
        for (auto word : {"OOM", "MISCONF", "LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN",
                          "MASTERDOWN", "NOREPLICAS", "BUSY "})
            if (is_error() && has(word)) return true;
        return false;
    }
};

struct Lost : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Connection {
public:
    explicit Connection(std::string url) : url_(std::move(url)) {
        std::signal(SIGPIPE, SIG_IGN);  // hiredis writes to sockets that Redis has closed.
        open();
    }

    void open() {
        static const std::regex form(
            R"((?:redis://(?:([^:@]*):([^@]*)@)?([^:/]+)(?::(\d{1,5}))?/?|unix://(/.*)))");
        std::smatch found;
        if (!std::regex_match(url_, found, form))
            throw std::invalid_argument("the URL is not redis://HOST:PORT or unix:///PATH");
        timeval limit{10, 0};
        const int port = found[4].matched ? std::stoi(found[4]) : 6379;
        context_.reset(found[5].matched
                           ? redisConnectUnixWithTimeout(found[5].str().c_str(), limit)
                           : redisConnectWithTimeout(found[3].str().c_str(), port, limit));
        if (!context_ || context_->err)
            throw Lost(std::string("Redis does not answer: ") +
                       (context_ ? context_->errstr : "no memory"));
        redisSetTimeout(context_.get(), limit);
        if (found[2].matched && found[2].length()) {
            Words login{"AUTH"};
            if (found[1].length()) login.push_back(found[1]);
            login.push_back(found[2]);
            if (command(login).is_error()) throw std::runtime_error("Redis refuses the login");
        }
    }

    Reply command(const Words &words) {
        std::vector<const char *> parts;
        std::vector<size_t> sizes;
        for (const auto &word : words) {
            parts.push_back(word.data());
            sizes.push_back(word.size());
        }
        auto *raw = static_cast<redisReply *>(redisCommandArgv(
            context_.get(), static_cast<int>(words.size()), parts.data(), sizes.data()));
        if (!raw) throw Lost(context_->errstr);
        Reply reply = copied(*raw);
        freeReplyObject(raw);
        return reply;
    }

private:
    static Reply copied(const redisReply &raw) {
        Reply reply;
        reply.type = raw.type;
        reply.integer = raw.integer;
        if (raw.str) reply.text.assign(raw.str, raw.len);
        for (size_t index = 0; index < raw.elements; ++index)
            reply.parts.push_back(copied(*raw.element[index]));
        return reply;
    }

    struct Free {
        void operator()(redisContext *context) const { redisFree(context); }
    };
    std::string url_;
    std::unique_ptr<redisContext, Free> context_;
};

inline const char *const reserve_script = R"(
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local sum = 0
for _, bytes in ipairs(redis.call('HVALS', KEYS[1])) do
  sum = sum + (tonumber(bytes) or 0)
end
sum = sum - (tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') or 0)
if ARGV[4] == '0' and sum + tonumber(ARGV[2]) > tonumber(ARGV[3]) then
  return string.format('%.0f', sum)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false)";

inline const char *const event_script = R"(
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end
redis.call('XTRIM', KEYS[1], 'MINID', '0-1')
local id
for _, document in ipairs(ARGV) do
  id = redis.call('XADD', KEYS[1], '*', 'doc', document)
end
return id)";

inline const char *const heartbeat_script = R"(
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 1 then return 1 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0)";

}  // namespace scanbus

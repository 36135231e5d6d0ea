// Publish a scan from C++: a group of an axis and a counter, texts, a camera.
//
//   publish_scan [redis://HOST:PORT|unix:///PATH] [POINTS] [PAUSE_MS]
//
// Exit codes are those of the command scanbus: 0 complete, 1 usage or no Redis, 2 partial,
// 3 failed, or given up in the middle.
#include "scanbus.hpp"

#include <iostream>

namespace {

template <typename Value>
std::string bytes(const std::vector<Value> &values) {  // Little-endian machines only.
    return {reinterpret_cast<const char *>(values.data()), sizeof(Value) * values.size()};
}

// A block of one text: its length, then its UTF-8.
std::string text_block(const std::string &text) {
    return bytes<uint32_t>({static_cast<uint32_t>(text.size())}) + text;
}

constexpr unsigned rows = 48, columns = 64;

enum Exit { complete = 0, usage = 1, partial = 2, failed = 3 };

// A whole number; nothing else, and no sign.
unsigned whole(const std::string &name, const std::string &given) {
    const bool has_digits =
        !given.empty() && given.find_first_not_of("0123456789") == std::string::npos;
    if (!has_digits || given.size() > 9)
        throw std::invalid_argument(name + " is '" + given + "', not a whole number");
    return static_cast<unsigned>(std::stoul(given));
}

// The code of what went wrong; from the announcement on there is a scan that has failed.
int run(int argc, char **argv, bool &has_begun) {
    if (argc > 4)
        throw std::invalid_argument("usage: publish_scan [URL] [POINTS] [PAUSE_MS]");
    const std::string url = argc > 1 ? argv[1] : "redis://127.0.0.1:6379";
    const unsigned points = argc > 2 ? whole("POINTS", argv[2]) : 100;
    const unsigned pause_ms = argc > 3 ? whole("PAUSE_MS", argv[3]) : 0;

    scanbus::Names names;
    names.proposal = "hg123";
    names.collection = "cpp";
    names.title = "a scan of C++";
    const std::vector<scanbus::LaneOf> lanes{
        {"counters",
         "values",
         {R"({"name":"th","group":"counters","device":"th","role":"axis","dtype":"float64",)"
          R"("shape":[],"units":"deg"})",
          R"({"name":"diode","group":"counters","device":"diode","dtype":"float32","shape":[]})"},
         1000,
         1000,
         1 << 20},
        {"note",
         "values",
         {R"({"name":"note","group":"note","device":"note","dtype":"string","shape":[],)"
          R"("max_point_bytes":100})"},
         1000,
         1000,
         1 << 20},
        {"camera",
         "files",
         {R"({"name":"camera","group":"camera","device":"camera","role":"detector",)"
          R"("dtype":"uint16","shape":[48,64]})"},
         1,
         1 << 20,
         1 << 18},  // A segment ends with the frame that brings it to 256 kB.
    };
    scanbus::Scan scan(url, names, lanes, 64 << 20, R"({"sample":{"name":"LaB6"}})");
    has_begun = true;
    std::cout << "scan " << scan.names().number << " " << scan.names().uid << std::endl;

    std::vector<uint16_t> frame(rows * columns);
    for (unsigned point = 0; point < points; ++point) {
        const double time = scanbus::now();
        scan.send("counters",
                  {bytes<double>({0.1 * point}), bytes<float>({1.0f / float(point + 1)})},
                  {time});
        scan.send("note", {text_block("point " + std::to_string(point))}, {time});
        for (unsigned pixel = 0; pixel < frame.size(); ++pixel)
            frame[pixel] = static_cast<uint16_t>(point + pixel);
        scan.send("camera", {bytes(frame)}, {time});
        std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    }
    scan.skip("note", 1);  // A point that never came: the verdict names it.
    const auto verdict = scan.finish("SUCCESS");
    if (verdict.empty())
        throw std::runtime_error("no verdict in time: is a writer running? The data are on "
                                 "the bus");
    std::cout << verdict << std::endl;
    return verdict == "complete" ? complete : verdict == "partial" ? partial : failed;
}

}  // namespace

int main(int argc, char **argv) {
    bool has_begun = false;
    try {
        return run(argc, argv, has_begun);
    } catch (const std::exception &error) {
        std::cerr << "publish_scan: " << error.what() << std::endl;
    }
    return has_begun ? failed : usage;
}

// Documents of a scan as JSON: its names, its lanes.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace scanbus {

using Words = std::vector<std::string>;

inline double now() {
    using namespace std::chrono;
    return duration<double>(system_clock::now().time_since_epoch()).count();
}

inline std::string number(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
}

inline std::string json_text(const std::string &text) {
    std::string found = "\"";
    for (unsigned char letter : text) {
        if (letter == '"' || letter == '\\') {
            found += '\\';
            found += static_cast<char>(letter);
        } else if (letter < 0x20) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", letter);
            found += code;
        } else {
            found += static_cast<char>(letter);
        }
    }
    return found + '"';
}

// Folders and names of a scan; the number is drawn if it is 0.
struct Names {
    std::string proposal, beamline = "id00", collection = "sample", dataset = "0001";
    std::string session, title, uid;
    long long number = 0;

    std::string folder() const {
        return proposal + "/" + beamline + "/" + session + "/RAW_DATA/" + collection + "/" +
               collection + "_" + dataset;
    }

    std::string json() const {
        return "{\"uid\":" + json_text(uid) + ",\"proposal\":" + json_text(proposal) +
               ",\"beamline\":" + json_text(beamline) + ",\"session\":" + json_text(session) +
               ",\"collection\":" + json_text(collection) + ",\"dataset\":" + json_text(dataset) +
               ",\"scan_number\":" + std::to_string(number) + "}";
    }
};

// A lane as `prepared` describes it; `channels` are JSON objects.
struct LaneOf {
    std::string name, storage;  // "values" or "files"
    Words channels;
    unsigned long long per_chunk, per_segment, segment_bytes;

    std::string json() const {
        std::string found;
        for (const auto &channel : channels)
            found += (found.empty() ? "" : ",") + channel;
        return "{\"name\":" + json_text(name) + ",\"storage\":" + json_text(storage) +
               ",\"points_per_chunk\":" + std::to_string(per_chunk) +
               ",\"points_per_segment\":" + std::to_string(per_segment) +
               ",\"segment_bytes\":" + std::to_string(segment_bytes) + ",\"channels\":[" +
               found + "]}";
    }
};

}  // namespace scanbus

-- What the image of a job was, to know it when it comes again. `place` is the job in one number: its millisecond, then
-- chance. Ids of jobs sort by age. No reference to jobs: an entry whose job is gone matches nothing, and is swept with its age.
CREATE TABLE contents (
    place {int} NOT NULL,
    job_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    operation {blob} NOT NULL,
    bytes {blob} NOT NULL,
    pixels {blob},
    perceptual {blob},
    created_at {int} NOT NULL,
    PRIMARY KEY (place, job_id)
) {strict};
CREATE INDEX contents_by_bytes ON contents (bytes, job_id);
CREATE INDEX contents_by_pixels ON contents (pixels, job_id) WHERE pixels IS NOT NULL;
CREATE INDEX contents_by_age ON contents (created_at, place);

-- Where near pictures meet: `band` is a digest of project, mode and some signs of a perceptual digest. A band has few
-- slots, so that a look-up stays short where thousands of pictures share one; who comes too late is found by others.
CREATE TABLE content_bands (
    band {int} NOT NULL,
    slot {int} NOT NULL,
    place {int} NOT NULL,
    PRIMARY KEY (band, slot)
) {strict};
CREATE INDEX content_bands_by_place ON content_bands (place);

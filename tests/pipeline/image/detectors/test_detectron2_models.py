"""detectron2's models with random weights, small, against detectron2's own modules; skipped where it is absent."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector

FPN = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
C4 = "COCO-Detection/faster_rcnn_R_50_C4_3x.yaml"
CASCADE = "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"
MASK = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
RETINANET = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
SMALL = [
    "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "INPUT.MIN_SIZE_TEST", 128,
    "INPUT.MAX_SIZE_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 60,
]  # fmt: skip
WIDTHS = {FPN: 1024, C4: 512, CASCADE: 1024, MASK: 1024, RETINANET: 256}
THRESHOLD = 0.02

needs_detectron2 = pytest.mark.detectron2


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detectron2():
    return pytest.importorskip("detectron2")


@pytest.fixture(scope="module")
def network(detectron2, tmp_path_factory):
    """By config: a small model with random weights that differ enough for scores to differ, and its file."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    made = {}

    def make(config):
        if config not in made:
            settings = get_cfg()
            settings.merge_from_file(model_zoo.get_config_file(config))
            settings.merge_from_list([*SMALL, "MODEL.DEVICE", "cpu"])
            torch.manual_seed(0)
            model = build_model(settings).eval()
            for name, value in model.state_dict().items():
                if "cls_score.weight" in name:
                    value *= 30
            path = tmp_path_factory.mktemp("weights") / "w.pth"
            torch.save({"model": model.state_dict()}, path)
            for part in model.modules():
                if hasattr(part, "test_score_thresh"):
                    part.test_score_thresh = THRESHOLD
            made[config] = (settings, model, str(path))
        return made[config]

    return make


@pytest.fixture(scope="module")
def make(network):
    def make(config, **options):
        weights = options.pop("weights", None) or network(config)[2]
        spec = DetectorSpec(f"detectron2:{config}", weights, "cpu", THRESHOLD, {"overrides": SMALL, **options})
        return load_detector(spec)

    return make


@torch.inference_mode()
def direct(settings, model, image):
    """What detectron2 itself finds in one image, and all the box heads' outputs that it came by."""
    from detectron2.data.transforms import ResizeShortestEdge

    shorter = settings.INPUT.MIN_SIZE_TEST
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    resized = ResizeShortestEdge([shorter, shorter], settings.INPUT.MAX_SIZE_TEST).get_transform(bgr).apply_image(bgr)
    tensor = torch.tensor(resized.transpose(2, 0, 1).astype(np.float32))
    return model([{"image": tensor, "height": image.shape[0], "width": image.shape[1]}])[0]["instances"]


@needs_detectron2
@pytest.mark.parametrize("config", [FPN, C4, CASCADE, MASK, RETINANET])
def test_boxes_scores_and_classes_are_detectron2s_own(network, make, config):
    settings, model, _ = network(config)
    detector = make(config)
    assert detector.feature_dim == WIDTHS[config]
    assert len(detector.labels) == 80
    images = [picture(120, 160), picture(200, 90, 1), picture(64, 64, 2)]
    for image, found in zip(images, detector.detect(images), strict=True):
        expected = direct(settings, model, image)
        assert len(found.boxes) > 5
        assert np.allclose(found.boxes, expected.pred_boxes.tensor.numpy(), atol=1e-4)
        assert np.allclose(found.scores, expected.scores.numpy(), atol=1e-4)
        assert np.array_equal(found.labels, expected.pred_classes.numpy())
        assert found.features.shape == (len(found.boxes), WIDTHS[config])
        types = [found.boxes.dtype, found.scores.dtype, found.labels.dtype, found.features.dtype]
        assert types == [np.float32, np.float32, np.int64, np.float32]


@needs_detectron2
@pytest.mark.parametrize("config", [FPN, C4, MASK])
def test_the_feature_is_what_the_instances_score_and_box_were_predicted_from(network, make, config):
    _, model, _ = network(config)
    (found,) = make(config).detect([picture(120, 160)])
    with torch.inference_mode():
        scores, _ = model.roi_heads.box_predictor(torch.tensor(found.features))
        chances = scores.softmax(dim=1)[torch.arange(len(found.labels)), torch.tensor(found.labels)]
    assert np.allclose(chances.numpy(), found.scores, atol=1e-4)
    assert found.features.std() > 0.01


@needs_detectron2
def test_the_feature_of_a_cascade_is_its_last_stages(network, make):
    settings, model, _ = network(CASCADE)
    heads = model.roi_heads
    seen: dict[str, Any] = {}
    last = heads.box_predictor[-1]
    hooks = [
        heads.box_head[-1].register_forward_hook(lambda _, __, out: seen.__setitem__("features", out)),
        last.register_forward_hook(lambda _, __, out: seen.__setitem__("predictions", out)),
    ]
    original = last.predict_boxes
    last.predict_boxes = lambda predictions, proposals: seen.setdefault("boxes", original(predictions, proposals))
    image = picture(128, 128)
    try:
        expected = direct(settings, model, image)
    finally:
        del last.predict_boxes
        for hook in hooks:
            hook.remove()
    (found,) = make(CASCADE).detect([image])
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(torch.tensor(found.features), seen["features"], compute_mode=exact)
    rows = distances.argmin(dim=1)
    assert distances.min(dim=1).values.max() < 1e-4
    # The row that the feature came from is the row that the box came from (128 pixels are not resized).
    boxes = seen["boxes"][0][rows].clamp(0, 128)
    assert np.allclose(boxes.numpy(), expected.pred_boxes.tensor.numpy(), atol=1e-3)


@needs_detectron2
def test_the_feature_of_retinanet_is_the_mean_of_its_finest_map(network, make):
    from torchvision.ops import roi_align

    _, model, _ = network(RETINANET)
    image = picture(128, 128)
    (found,) = make(RETINANET).detect([image])
    tensor = torch.tensor(np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32))
    with torch.inference_mode():
        finest = model.backbone(model.preprocess_image([{"image": tensor}]).tensor)["p3"]
        expected = roi_align(finest, [torch.tensor(found.boxes)], 1, 1 / 8, sampling_ratio=2, aligned=True).flatten(1)
    assert np.allclose(found.features, expected.numpy(), atol=1e-4)


@needs_detectron2
@pytest.mark.parametrize("config", [FPN, C4, RETINANET])
def test_an_images_result_does_not_depend_on_its_neighbours(make, config):
    images = [picture(120, 160), picture(20, 300, 1), picture(300, 200, 2)]
    detector = make(config)
    alone = [detector.detect([image])[0] for image in images]
    for one, other in zip(alone, detector.detect(images), strict=True):
        assert all(np.array_equal(value, vars(other)[key]) for key, value in vars(one).items())


@needs_detectron2
def test_no_regions(network):
    spec = DetectorSpec(f"detectron2:{FPN}", network(FPN)[2], "cpu", 1.0, {"overrides": SMALL})
    (found,) = load_detector(spec).detect([picture(64, 64)])
    assert [array.shape for array in vars(found).values()] == [(0, 4), (0,), (0,), (0, 1024)]


@needs_detectron2
def test_a_model_of_ones_own_with_its_classes_and_safetensors(network, tmp_path):
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    settings = get_cfg()
    settings.merge_from_file(model_zoo.get_config_file(FPN))
    settings.merge_from_list([*SMALL, "MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.DEVICE", "cpu"])
    settings.MODEL.WEIGHTS = str(tmp_path / "own.safetensors")
    save_file(build_model(settings).state_dict(), settings.MODEL.WEIGHTS)
    (tmp_path / "own.yaml").write_text(settings.dump())
    (tmp_path / "names.txt").write_text("dog\nkite\n")
    name = f"detectron2:{tmp_path / 'own.yaml'}"
    for classes in (["dog", "kite"], str(tmp_path / "names.txt")):
        detector = load_detector(DetectorSpec(name, None, "cpu", 0.1, {"classes": classes}))
        assert list(detector.labels) == ["dog", "kite"]
    config = describe_detector(DetectorSpec(name, None, "cpu", 0.1)).config
    assert config
    assert config.startswith("sha256:")
    with pytest.raises(CallError, match=r"has 2 classes, detectron2's catalog for coco_2017_val has 80 names"):
        load_detector(DetectorSpec(name, None, "cpu", 0.1))
    with pytest.raises(UserError, match="does not fit"):
        load_detector(DetectorSpec(f"detectron2:{FPN}", settings.MODEL.WEIGHTS, "cpu", 0.1, {"overrides": SMALL}))


@needs_detectron2
def test_no_code_is_run_from_configs_or_weights_unasked(network, tmp_path):
    sign = tmp_path / "ran"
    evil = tmp_path / "evil.yaml"
    evil.write_text(
        f'MODEL: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{sign}"]]\n'
    )
    with pytest.raises(CallError, match="not readable as a config"):
        load_detector(DetectorSpec(f"detectron2:{evil}", network(FPN)[2], "cpu", 0.3))
    program = tmp_path / "config.py"
    program.write_text(f"import pathlib; pathlib.Path({str(sign)!r}).touch()\n")
    with pytest.raises(CallError, match=r"is a program .*allow_code: true"):
        load_detector(DetectorSpec(f"detectron2:{program}", network(FPN)[2], "cpu", 0.3))
    (tmp_path / "w.pkl").write_bytes(b"")
    for weights in (str(tmp_path / "w.pkl"), None):
        with pytest.raises(CallError, match=r"\.pkl is a pickle.*allow_pickle: true"):
            load_detector(DetectorSpec(f"detectron2:{FPN}", weights, "cpu", 0.3, {"overrides": SMALL}))
    assert not sign.exists()


@needs_detectron2
def test_a_pickle_is_read_when_it_is_asked_for(network, make, tmp_path):
    import pickle

    _, model, _ = network(FPN)
    content = {name: value.numpy() for name, value in model.state_dict().items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": content, "__author__": "a test"}))
    (found,) = make(FPN, weights=str(tmp_path / "w.pkl"), allow_pickle=True).detect([picture(64, 64)])
    (expected,) = make(FPN).detect([picture(64, 64)])
    assert np.array_equal(found.features, expected.features)


@needs_detectron2
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("COCO-Detection/no_such.yaml", "neither a file nor a config of detectron2's model zoo"),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "ProposalNetwork, which finds no boxes"),
        ("Misc/semantic_R_50_FPN_1x.yaml", "SemanticSegmentor, which finds no boxes"),
    ],
)
def test_configs_that_find_no_boxes_or_are_not_there(detectron2, config, message):
    with pytest.raises(CallError, match=message):
        load_detector(DetectorSpec(f"detectron2:{config}", None, "cpu", 0.3))


@needs_detectron2
def test_weights_that_are_none(detectron2, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"hello")
    with pytest.raises(UserError, match="is not readable as weights"):
        load_detector(DetectorSpec(f"detectron2:{FPN}", str(tmp_path / "w.pth"), "cpu", 0.3, {"overrides": SMALL}))


def test_where_it_is_absent_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(UserError, match=r"detectron2 is not installed.*pip install .*facebookresearch/detectron2"):
        load_detector(DetectorSpec(f"detectron2:{FPN}", None, "cpu", 0.3))

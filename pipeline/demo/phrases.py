"""The words of the captions: asides, places, activities, adjectives. `captions` puts them together."""

from __future__ import annotations

# In the texts below "{bear}" is a decoy. `captions` fills them in.
ASIDES = (
    "{who} {train} hard for the race {when}",
    "{who} walked through the {fish} market {when}",
    "she will {book} a room by the lake {when}",
    "an {orange} sky hung over the hills {when}",
    "it was a {bear} of a problem {when}",
    "the {coach|bus} shouted at the whole team {when}",
    "he will {chair} the meeting {when}",
    "{who} can hardly {bear} the noise {when}",
    "the world {cup} begins {when}",
    "{who} read the {house} rules {when}",
    "these were the {dog} days of summer, {who} said {when}",
    "{who} held a coin in the {palm|palm tree} of one hand {when}",
    "{who} came up with a {novel|book} idea {when}",
    "a {jet|airplane} black coat hung by the door {when}",
    "{who} kept fishing for praise, and prices {balloon|hot air balloon} {when}",
    "{who} {cycle|bicycle} through all the options {when}",
    "a {clock} tower sketch won the prize {when}",
    "{who} bought an {orange} dress {when}",
    "they sat in the front {seat|chair} row of the hall {when}",
    "{who} {mushroom} into a crowd {when}",
    "{who} {mug|cup} for the camera {when}",
    "the {book} fair opened {when}",
)
WHO = ("they", "the neighbours", "two runners", "some friends", "the students", "the players", "many people")
WHEN = ("today", "this week", "on Monday", "in the morning", "after lunch", "every spring", "before the show", "again")
TAILS = (
    ", while {who} {train} hard for a race",
    ", drawn on a {book} cover",
    ", and {who} can {bear} the wind",
    ", a {bear} of a thing to draw",
    ", as seen from the {bus} stop",
    ", just like at the {fish} market",
    ", in a {novel|book} style",
    ", and {who} {fish} for the right word",
)

# The first two of each are also true of things that fly there.
STANDING: dict[str, tuple[str, ...]] = {
    "field": ("in a meadow", "in the countryside", "in a green field", "on the grass"),
    "forest": ("in the forest", "in the woods", "among tall trunks", "on the forest floor"),
    "sea": ("out at sea", "on the open sea", "in the waves", "on the water"),
    "beach": ("at the beach", "near the sea", "by the shore", "on the sand"),
    "street": ("in town", "in the city", "on a city street", "on the road"),
    "night": ("at night", "in the dark city", "under the moon", "on a street after dark"),
    "room": ("in a living room", "indoors", "by the window", "on the wooden floor"),
    "kitchen": ("in the kitchen", "near the cupboards", "on the kitchen table", "on a table"),
    "snow": ("on a winter day", "in a snowy valley", "in the snow", "below white mountains"),
}
FLYING: dict[str, tuple[str, ...]] = {
    "field": ("over a green field", "above the grass", "in the sky"),
    "forest": ("in the forest", "in the woods", "between the trunks"),
    "sea": ("over the sea", "above the waves", "in the sky"),
    "beach": ("over the beach", "above the shore", "in the sky"),
    "street": ("over the city", "above a street", "in the sky"),
    "night": ("in the night sky", "over the dark city", "under the moon"),
    "room": ("in a living room", "indoors", "by the window"),
    "kitchen": ("in the kitchen", "above the table", "near the cupboards"),
    "snow": ("over the snow", "above white mountains", "in the winter sky"),
}
DOING = {
    "dog": ("standing", "waiting", "playing"),
    "cat": ("sitting", "watching", "waiting"),
    "bear": ("walking", "standing", "looking around"),
    "sheep": ("grazing", "standing"),
    "goose": ("resting", "looking around"),
    "mouse": ("hiding", "sniffing"),
    "fish": ("swimming", "jumping"),
    "owl": ("watching", "gliding"),
    "butterfly": ("fluttering", "flying"),
    "train": ("rolling by", "waiting", "steaming"),
    "car": ("parked", "driving by", "waiting"),
    "bus": ("waiting", "driving by", "parked"),
    "bicycle": ("parked", "left alone"),
    "sailboat": ("sailing", "drifting"),
    "hot air balloon": ("floating", "drifting", "rising"),
    "traffic light": ("standing", "blinking"),
    "kite": ("flying", "dancing", "rising"),
    "airplane": ("flying", "climbing"),
    "house": ("standing", "seen"),
    "palm tree": ("growing", "swaying"),
    "umbrella": ("opened", "standing"),
    "orange": ("lying", "seen"),
    "book": ("lying", "left alone"),
    "chair": ("standing", "left alone"),
    "clock": ("ticking", "standing"),
    "lamp": ("glowing", "standing"),
    "cup": ("standing", "steaming"),
    "mushroom": ("growing", "seen"),
}
ADJECTIVES = {"orange": ("ripe", "round", "juicy"), "palm tree": ("tall", "leaning", "green")}
COLOUR_WORDS = {"gray": ("gray", "grey"), "golden": ("golden", "tan", "yellowish"), "black": ("black", "dark")}

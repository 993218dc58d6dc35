"""Sentences from the field with the concepts that they mention, for both taggers.

They cover objects without an article, set phrases, punctuation, other senses, names, verbs and spellings. A concept is
listed once per mention.
"""

import pytest

from vlmixer.bank.concepts import load_vocabulary, make_vocabulary
from vlmixer.pipeline.text.tagger import Tagger

REPORTED = """
A boy in a black swimsuit playing near the water. => person
One man kite surfing in the ocean. => person
Men throwing tomatoes from a large trash bin. => person
A man in a uniform saluting. => person
Child playing in a pool with clean water. => person
I saw her duck behind the fence. =>
Balaji plays tennis three times a week. =>
Her dog is cute! => dog
Our plane won. => airplane
They train every morning at the gym. =>
She will cook dinner for us. =>
Nurses monitor the patients closely. => person, person
Please be patient while we load. =>
He likes to ski and bike on weekends. =>
Birds fly over the lake. => bird
The crew will ship the goods by plane. => airplane
The dogs bark, crows crow and ducks duck. => dog, bird, bird
Do not park here. =>
We must book a table for two. => dining table
He had to steer the boat around the rocks. => boat
She can bowl well. =>
Kids love to skate. => person
A new study will table the motion. =>
Fork the repository before you commit. =>
The two teams tie at one goal each. =>
He will phone his mother tomorrow. => person
A mouse ran across the kitchen floor. =>
A mouse lies next to the keyboard. => mouse, keyboard
The cat caught a mouse. => cat
A bat flew out of the cave at dusk. =>
He swings the bat at the ball. => baseball bat, sports ball
An orange cat sleeps. => cat
A bowl of oranges stands on the table. => bowl, orange, dining table
The train of her dress was long. =>
They live in a remote village. =>
He wears a tie. => tie
The game ended in a tie. =>
The remote lies on the sofa. => remote, couch
A novel approach to the problem. =>
Red blood cells and stem cells. =>
The prisoner sits in his cell. =>
He keeps fit with a healthy bite of an apple. => apple
A clothes horse stands in the corner. =>
The cow licks her calf. => cow, cow
He injured his calf while running. =>
She had a calf muscle injury. =>
The stock market saw a bull run. =>
The ball was held at the palace. =>
Three bears walk through the snow. => bear
I can't bear the noise. =>
He took the stand in a black suit. =>
A pitcher of water on the table. => dining table
The pitcher throws the ball. => person, sports ball
A bird's eye view of the city. =>
A bird's-eye view of the harbor. =>
Baby's breath flowers in a vase. => vase
The men's room is on the left. =>
A women's tennis match. =>
The dog's bowl is empty. => dog, bowl
A children's book lies on the bed. => book, bed
Bull's eye! =>
A ship's bell hangs on the wall. =>
Goat's cheese and cow's milk. =>
A sheep's wool sweater. =>
Levi's jeans on a chair. => chair
A worm's eye view of a tower. =>
It is a dog's life. =>
A lion's mane jellyfish. =>
The crow's nest of a ship. => boat
A cat's cradle. =>
Father's Day cake on a plate. => cake
Happy Mother's Day! =>
Valentine's Day cupcakes. => cake
The sun sets over santa monica pier. =>
Santa Claus sits in a chair. => person, chair
Buffalo, New York, under snow. =>
Robin Williams on the red carpet. =>
Tiger Woods swings. =>
Fans of the Chicago Bulls cheer. =>
A Dallas Cowboys helmet. =>
Apple announced a new phone. => cell phone
The Toronto Blue Jays won. =>
Bear Grylls eats a snake. =>
Elephant and Castle station in London. =>
Drew lives on Baker Street. =>
Big Bird waves. =>
Swan Lake is a ballet. =>
The Ford Mustang parked outside. =>
It was hot. Dogs lay in the shade. => dog
It was hot - dogs lay in the shade. => dog
It was hot.Dogs lay in the shade. => dog
The soup was hot – dogs begged for it. => dog
hot--dogs everywhere => dog
He sat on the fire truck - light was fading. => truck
We saw a polar bear, black bear and brown bear. => bear, bear, bear
She drank wine. Glass shards lay around. =>
She drank wine/glass in hand. =>
A dog/cat shelter. =>
A DOG AND TWO CATS SIT ON A RED COUCH. => dog, cat, couch
MAN RIDES BIKE => person, bicycle
THEY TRAIN DOGS => dog
I WILL BOOK A FLIGHT =>
An aeroplane over the harbour. => airplane
Grey lorries and a lorry. => truck, truck
Two geese, three oxen, four mice and five sheep. => bird, cow, mouse, sheep
Knives, forks and spoons. => knife, fork, spoon
The loaves and calves. => cow
Teddybears and hot-dogs. => teddy bear, hot dog
A tee-shirt and a T-shirt. =>
Skis' edges. => skis
Buses, busses and bus's. => bus, bus, bus
An ox-cart. =>
A cat-like robot. =>
A dog-friendly hotel. =>
A half-eaten sandwich. => sandwich
A man-made lake. =>
A double-decker bus. => bus
A fire-engine red sofa. => couch
"""

NEIGHBOURS = """
dog catches frisbee => dog, frisbee
man rides bike => person, bicycle
woman reads book => person, book
boy flies kite => person, kite
girl eats sandwich => person, sandwich
man drives truck => person, truck
cat chases mouse => cat
player swings bat => person, baseball bat
child throws ball => person, sports ball
woman cuts cake => person, cake
man holds umbrella in rain => person, umbrella
woman walks dog => person, dog
boy kicks ball to friends => person, sports ball, person
A red novel left of a vase. => book, vase
dog retrieves frisbee => dog, frisbee
cat watches bird => cat, bird
woman holds baby => person, person
man opens laptop => person, laptop
girl hugs teddy bear => person, teddy bear
horse pulls cart => horse
man paints chair => person, chair
surfer carries surfboard => person, surfboard
The students train every day. => person
A worm's-eye view of a bus. => bus
The ladies' room is closed. =>
A kids' menu. =>
The man's hat is red. => person
The men's faces are painted. => person
A girl's shoes. => person
The crow's-feet around her eyes. =>
Hound's tooth jacket. =>
A glass of goat's milk. =>
A baker's dozen of bagels. => donut
The farmers' market opens at nine. =>
A cat's eye marble. =>
The dog's tail wags. => dog
Lunch was hot; dogs slept. => dog
A sofa - bed and lamp not included. => couch, bed
Bring your cell/phone. => cell phone, cell phone
We ate hot-dogs. => hot dog
I saw a stop: sign it. =>
It was a fire. Truck drivers stopped. => person
A tiger-like pattern on the cup. => cup
A horse-like animal. =>
Busses wait at the station. => bus
A scientist counts cells under a microscope. =>
Inmates leave their cell. =>
She is talking on her cell. => cell phone
A bat hangs in a cave. =>
An owl ate a mouse. => bird
A mouse and a laptop on a desk. => mouse, laptop
She pulled a calf muscle. =>
A tattoo on his calf. =>
An elephant and her calf. => elephant
A cow and her calf. => cow, cow
The match finished in a tie. =>
The man in a suit and a tie smiles. => person, tie
A masked ball in the palace. =>
Investors fear the bear. =>
Fans of the Philadelphia Eagles sing. =>
The Pittsburgh penguins lost. =>
A crowd cheers for the Hawks at night. => person
Apple unveils new laptops. => laptop
An Apple on the wooden shelf. => apple
They moved to Buffalo last year. =>
Robin Wright acts in a film. =>
A robin sits on a branch. => bird
They met on Swan Street near the church. =>
We stay in Santa Barbara for the weekend. =>
Santa sits in a sleigh. => person
A Golden Retriever runs along the beach. => dog
A Siberian Husky sleeps in the snow. => dog
Two Dogs Play In The Snow => dog
A snowy owl sits on a pole. => bird
A canary yellow car. => car
A drawing of a big car. => car
A drawing of a dog and a cat => dog, cat
A man next to a drawing of a dog. => person
Book a table now. => dining table
She will bike and ski tomorrow. =>
A mobile home by the lake. =>
She was patient with us. =>
A doctor and a patient. => person, person
Train the network on images. =>
A dog waits. => dog
"""


def cases(*tables):
    rows = [line.partition(" =>") for table in tables for line in table.strip().splitlines()]
    return [(text, [name for name in concepts.strip().split(", ") if name]) for text, _, concepts in rows]


@pytest.fixture(scope="module", params=["rules", "pipeline"])
def tagger(request):
    if request.param == "rules":
        return Tagger(load_vocabulary("coco"), "rules")
    return Tagger(load_vocabulary("coco"), str(request.getfixturevalue("shared_data") / "spacy" / "en_ewt_sm"))


@pytest.mark.parametrize(("text", "concepts"), cases(REPORTED, NEIGHBOURS))
def test_concepts_of_sentences_from_the_field(tagger, text, concepts):
    [found] = tagger.tag([text])
    assert [mention.concept for mention in found.mentions] == concepts


def test_the_other_sense_depends_on_the_vocabulary():
    text = ["The cat caught a mouse, and a bat flew by."]
    [as_animals] = Tagger(make_vocabulary("v", [["mouse"], ["bat"]]), "rules").tag(text)
    [as_tools] = Tagger(load_vocabulary("coco"), "rules").tag(text)
    assert [mention.concept for mention in as_animals.mentions] == ["mouse", "bat"]
    assert [mention.concept for mention in as_tools.mentions] == ["cat"]


@pytest.mark.parametrize(
    "text", ["some friends mug for the camera", "prices balloon again", "students mushroom into a crowd"]
)
def test_words_behind_a_plural_are_verbs(text):
    [found] = Tagger(make_vocabulary("v", [["mug"], ["balloon"], ["mushroom"]]), "rules").tag([text])
    assert found.mentions == ()
